"""The frozen base: where it is found, how it is loaded, and what tells it from another."""
