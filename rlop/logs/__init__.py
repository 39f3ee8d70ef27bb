"""What a training writes down while it runs, and reading it back."""
