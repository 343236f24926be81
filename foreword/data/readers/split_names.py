"""What splits are called elsewhere, and what they are called here."""

from __future__ import annotations

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "val": "dev",
    "validation": "dev",
    "eval": "dev",
    "test": "test",
    "testing": "test",
}
"""Lower-case name -> train, dev or test."""
