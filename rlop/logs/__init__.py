"""Logs of a training, and functions that read them."""
