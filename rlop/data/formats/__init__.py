"""One reader for each file format and source."""
