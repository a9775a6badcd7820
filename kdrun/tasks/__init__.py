"""What is to be learned: one file a task, found by its key."""
