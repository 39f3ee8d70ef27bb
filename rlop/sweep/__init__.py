"""Many trainings, one process each."""
