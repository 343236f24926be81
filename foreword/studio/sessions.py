"""Signed session cookies, and the token that every form carries against forgery from other sites."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

COOKIE = "foreword_studio"
_SECRET = "secret"


@dataclass(frozen=True)
class Session:
    """One browser's session; ``entered``: it has said the password."""

    ident: str
    entered: bool = False


class Sessions:
    """Makes and reads sessions with the workspace's secret, so that open pages outlive a restart."""

    def __init__(self, workspace: Path) -> None:
        path = workspace / _SECRET
        if not path.exists():
            workspace.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        self._secret = path.read_bytes()

    def new(self, entered: bool = False) -> Session:
        """A session that nobody else has."""
        return Session(secrets.token_urlsafe(18), entered)

    def cookie(self, session: Session) -> str:
        """The cookie's value."""
        said = f"{session.ident}.{int(session.entered)}"
        return f"{said}.{self._signed('session', said)}"

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None for one that was not made here."""
        said, _, signature = cookie.rpartition(".")
        if not said or not hmac.compare_digest(signature.encode(), self._signed("session", said).encode()):
            return None
        ident, _, entered = said.rpartition(".")
        return Session(ident, entered == "1")

    def token(self, session: Session) -> str:
        """What a form of this session carries."""
        return self._signed("form", session.ident)

    def is_token(self, session: Session, token: object) -> bool:
        """Whether a form comes from a page of this session."""
        return hmac.compare_digest(str(token).encode(), self.token(session).encode())

    def _signed(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()[:40]
