"""One training loop, its checkpoints, the sweep over learning rates, and the way in for other trainers."""
