"""Corrected rows into a run's data."""
