"""Errors in OpenAI's form, with the status codes that its clients act on."""

from __future__ import annotations

from typing import Any

from foreword.errors import BaseError, DataError, FileFormatError, ForewordError, ResourceError, SettingsError
from foreword.serve.engine.library import UnknownAnswerError, UnknownModelError
from foreword.serve.engine.remote import EngineFaultError
from foreword.serve.engine.waiting import QueueFullError, StoppedError

RETRY_SECONDS = 1


class ApiError(Exception):
    """A refusal with its status code.

    Args:
        status: of HTTP.
        code: a word that programs read.
        param: the field of the request that it is about.
        retry: whether the same request may succeed in a moment.
    """

    def __init__(self, status: int, message: str, code: str, param: str | None = None, retry: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {"Retry-After": str(RETRY_SECONDS)} if self.retry else {}


_STATUS: tuple[tuple[type[ForewordError], int, str], ...] = (
    (UnknownModelError, 404, "model_not_found"),
    (UnknownAnswerError, 404, "answer_not_found"),
    (QueueFullError, 429, "queue_full"),
    (StoppedError, 503, "stopping"),
    (EngineFaultError, 502, "engine_fault"),
    (DataError, 400, "invalid_input"),
    (SettingsError, 400, "invalid_value"),
    (FileFormatError, 400, "invalid_file"),
    (ResourceError, 503, "out_of_memory"),
    (BaseError, 400, "unsupported_by_base"),
)


def api_error(error: BaseException) -> ApiError:
    """What a client is told of an error; of one that is no refusal of ours, nothing but that it happened."""
    if isinstance(error, ApiError):
        return error
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            return ApiError(status, told(error), code, retry=status in (429, 503))
    return ApiError(500, "the server failed on this request; its log says why", "internal_error")


def told(error: ForewordError) -> str:
    """The error on one line, without paths of this machine."""
    parts = [error.problem]
    if error.expected is not None:
        parts.append(f"expected: {error.expected}")
    if error.received is not None:
        parts.append(f"received: {error.received}")
    if error.hint:
        parts.append(error.hint)
    return "; ".join(str(part) for part in parts)
