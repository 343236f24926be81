"""What the engine did, as counters; written by its thread, read by any."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EngineStats:
    """Totals since the start."""

    steps: int = 0
    step_rows: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    score_passes: int = 0
    rows_scored: int = 0
    tokens_scored: int = 0
    moved_rows: int = 0
    tokens_shared: int = 0

    def stepped(self, rows: int, read: int) -> None:
        """A step of ``rows`` rows that read ``read`` tokens of prompts."""
        self.steps += 1
        self.step_rows += rows
        self.tokens_read += read

    def scored(self, rows: int, tokens: int) -> None:
        """A scoring pass."""
        self.score_passes += 1
        self.rows_scored += rows
        self.tokens_scored += tokens
