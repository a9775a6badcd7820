"""What a run costs beyond its arithmetic, measured on the user's own machine: `kdrun bench`."""
