"""Several processes: many runs side by side, or one run over several ranks."""
