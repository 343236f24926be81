"""The HTTP application over the engine."""
