"""What every request passes before anything reads it: where it comes from, whose key it has, how long it is.

A page in a browser must not reach a server on the same machine: a request that names another origin, or that calls a
loopback address by a name that is none, is refused. There are no CORS headers.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from typing import Any

from foreword.serve.app.addresses import is_loopback
from foreword.serve.app.keys import Key, KeyRing
from foreword.serve.app.settings import ServeSettings
from foreword.serve.wire.api_errors import ApiError

log = logging.getLogger("foreword.serve")
_PORT = re.compile(r":[0-9]+\Z")
OPEN_PATHS = ("/healthz",)
UPLOADS = "/v1/forewords"


class Gate:
    """ASGI middleware; it puts the caller's :class:`Key` into the request's state as ``key``."""

    def __init__(self, app: Any, settings: ServeSettings, ring: KeyRing) -> None:
        self._app, self._settings, self._ring = app, settings, ring

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        # What is found out while the body is read: whoever reads it makes an answer of its own of an error.
        refusals: list[ApiError] = []
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def answer(message: dict[str, Any]) -> None:
            nonlocal status
            begins = message["type"] == "http.response.start"
            if begins:
                status = refusals[0].status if refusals else int(message["status"])
            if not refusals:
                await send(message)
            elif begins:
                await respond(send, refusals[0])

        name = "-"
        try:
            key = self._let_in(scope, headers)
            name = key.name
            scope.setdefault("state", {})["key"] = key
            await self._app(scope, self._bounded(scope, headers, receive, refusals), answer)
        except ApiError as error:
            if status == 0:
                await respond(answer, error)
        finally:
            seconds = round(time.perf_counter() - began, 4)
            said = {"method": scope["method"], "path": scope["path"], "status": status, "key": name, "seconds": seconds}
            log.info("request", extra={"fields": said})

    def _let_in(self, scope: dict[str, Any], headers: dict[str, str]) -> Key:
        host = _PORT.sub("", headers.get("host", ""))
        if is_loopback(self._settings.host) and not is_loopback(host):
            raise ApiError(403, "this server answers to a loopback address only", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise ApiError(403, "pages of other origins may not ask this server", "wrong_origin")
        if scope["path"] in OPEN_PATHS:
            return Key("-", "")
        key = self._ring.find(headers.get("authorization"))
        if key is None:
            message = "this server asks for a key: Authorization: Bearer KEY"
            raise ApiError(401, message, "invalid_api_key")
        seconds = self._ring.wait(key)
        if seconds:
            raise ApiError(
                429, f"too many requests with this key: try again in {math.ceil(seconds)} s", "rate", retry=True
            )
        return key

    def _bounded(self, scope: dict[str, Any], headers: dict[str, str], receive: Any, refusals: list[ApiError]) -> Any:
        upload = scope["path"] == UPLOADS
        most = self._settings.upload_bytes if upload else self._settings.body_bytes
        too_long = ApiError(413, f"the request is longer than {most} bytes", "request_too_large")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            raise too_long
        count = 0

        async def bounded() -> Any:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > most:
                refusals.append(too_long)
                raise too_long
            return message

        return bounded


async def respond(send: Any, error: ApiError) -> None:
    """An error as a whole answer."""
    body = json.dumps(error.body(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers()}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
