"""Metrics: one answer against its references."""
