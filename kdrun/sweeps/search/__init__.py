"""Which jobs a sweep runs: every combination, or those that what earlier ones scored suggests."""
