"""Serving: one frozen base in memory, every request with its own foreword, rows of all of them in one pass."""
