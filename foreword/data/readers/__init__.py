"""One file a format: from a file or rows in memory to a table."""
