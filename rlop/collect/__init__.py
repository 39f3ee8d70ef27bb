"""Roll out policies and write data sets."""
