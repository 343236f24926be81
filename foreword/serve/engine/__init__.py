"""The engine: continuous batching of rows with different forewords on one base."""
