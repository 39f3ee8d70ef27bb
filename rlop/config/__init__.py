"""Configuration: typed options, files and overrides, checks and their messages."""
