"""Ctrl-C while a run works: at once where nothing is lost, between two steps where a checkpoint can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Whether the user has asked to stop; inside :meth:`noted` that is only noted, for the loop to ask."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._noting = False

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed inside :meth:`noted`."""
        return self._asked.is_set()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside the block the first Ctrl-C is noted; a second one stops at once."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False
        if self.asked():  # too late for the last step to hear it
            raise KeyboardInterrupt

    def heard(self, number: int, frame: object) -> None:
        """The handler of the signal."""
        if not self._noting or self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Handle Ctrl-C as :class:`Interrupts` says inside the block; outside the main thread nothing changes."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.heard)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
