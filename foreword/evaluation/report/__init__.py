"""The report of a run, for people: text, Markdown, one HTML page."""
