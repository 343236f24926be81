"""From an exception to what the user sees and the exit code."""

from __future__ import annotations

import sys
import traceback

from foreword.cli.output import fitted, print_json
from foreword.errors import ForewordError, Interrupted, ResourceError
from foreword.messages import Message
from foreword.storage import disk_full, is_full


def report(error: BaseException, machine: bool, verbose: bool) -> int:
    """Print the error as text on standard error, with ``--json`` also as JSON on standard output.

    Args:
        error: what was raised.
        machine: ``--json`` was given.
        verbose: ``-v`` was given: show the traceback as well.

    Returns:
        the exit code.
    """
    known = as_known(error)
    if verbose:
        traceback.print_exception(error, file=sys.stderr)
    print(fitted(f"foreword: {known}", sys.stderr), file=sys.stderr, flush=True)
    if machine:
        print_json(known.to_json())
    return known.exit_code


def as_known(error: BaseException) -> ForewordError:
    """The error as one of ours; anything else is named as what it is."""
    if isinstance(error, ForewordError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, MemoryError):
        return ResourceError("not enough memory", hint="a smaller batch or a smaller base model needs less")
    if is_full(error):
        return disk_full(getattr(error, "filename", None) or ".")
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename is not None else None
        return ForewordError(error.strerror or str(error) or type(error).__name__, where=where)
    return ForewordError(
        Message("an error that should not happen: {name}: {error}", name=type(error).__name__, error=error),
        hint="run the same command with -v and report what it prints",
    )
