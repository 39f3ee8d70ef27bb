"""A copy of a data set in mapped files: made once, checked, shared by processes."""
