"""Where the jobs of a sweep run: each choice of `launch` names a class in here."""
