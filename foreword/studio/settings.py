"""What a studio is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreword.errors import SettingsError
from foreword.serve.app.addresses import is_loopback
from foreword.studio.password import has_password

PORT = 8266


@dataclass(frozen=True)
class StudioSettings:
    """Settings of a studio.

    Args:
        workspace: the folder that holds uploads, runs and the bin; made where it is not there.
        bases: folders whose base models (folders and GGUF files) can be picked by name.
        host: address; one that other machines can reach needs a password.
        port: of the page.
        upload_bytes: the longest body of a request.

    Raises:
        SettingsError: an address that others can reach, without a password.
    """

    workspace: Path
    bases: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = PORT
    upload_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not has_password(self.workspace):
            raise SettingsError(
                "a studio that other machines can reach needs a password",
                where="--host",
                received=self.host,
                hint="set one first with `foreword studio --set-password`",
            )

    @property
    def needs_password(self) -> bool:
        """Whether who comes has to say the password: where other machines can reach the page."""
        return not is_loopback(self.host)
