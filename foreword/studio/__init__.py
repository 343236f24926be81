"""The studio: one local web page over the same runs, files and commands as the command line."""
