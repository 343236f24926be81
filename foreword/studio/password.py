"""The password of a studio that other machines can reach: only its argon2 hash is kept."""

from __future__ import annotations

import os
from pathlib import Path

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.storage import write_atomically

FILE = "password"
LEAST = 8


def has_password(workspace: Path) -> bool:
    """Whether a password was set for the workspace."""
    return (workspace / FILE).is_file()


def set_password(workspace: Path, password: str) -> None:
    """Keep the password's hash. Raises SettingsError for one that is too short."""
    from argon2 import PasswordHasher

    if len(password) < LEAST:
        raise SettingsError(
            "the password is too short", where="--set-password", expected=Message("{n} characters or more", n=LEAST)
        )
    workspace.mkdir(parents=True, exist_ok=True)
    write_atomically(workspace / FILE, PasswordHasher().hash(password).encode())
    os.chmod(workspace / FILE, 0o600)


def is_password(workspace: Path, password: str) -> bool:
    """Whether it is the workspace's password."""
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return PasswordHasher().verify((workspace / FILE).read_text(), password)
    except (OSError, InvalidHashError, VerificationError):
        return False
