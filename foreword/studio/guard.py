"""What every request goes through: its host, its origin, its size, its session; and the headers of every answer."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreword.studio.sessions import COOKIE, Session, Sessions
from foreword.studio.settings import StudioSettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/login", "/static/")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that refuses what no page of the studio sends."""

    def __init__(self, app: ASGIApp, settings: StudioSettings, sessions: Sessions) -> None:
        self.app, self.settings, self.sessions = app, settings, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on with ``scope["state"]["session"]`` set."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        known = self._session(headers)
        session = known or self.sessions.new()
        scope.setdefault("state", {})["session"] = session

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out.setdefault(name, value)
                if known is None and "set-cookie" not in out:
                    out.append("Set-Cookie", cookie_line(self.sessions, session))
            await send(message)

        refusal = self._refusal(scope, headers, session)
        await (refusal or self.app)(scope, receive, with_headers)

    def _session(self, headers: Headers) -> Session | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return self.sessions.read(morsel.value) if morsel else None

    def _refusal(self, scope: Scope, headers: Headers, session: Session) -> Response | None:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if not self.settings.needs_password and name not in _LOOPBACK:
            return PlainTextResponse("this page is called by another name", 421)
        if self.settings.needs_password and not session.entered and not scope["path"].startswith(_OPEN):
            return RedirectResponse("/login", 303)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return PlainTextResponse("no such method", 405)
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if foreign or (origin is not None and urlsplit(origin).netloc != host):
            return PlainTextResponse("this request comes from another site", 403)
        length = headers.get("content-length", "")
        if not length.isdigit():
            return PlainTextResponse("the request does not say its length", 411)
        if int(length) > self.settings.upload_bytes:
            return PlainTextResponse(f"more than {self.settings.upload_bytes >> 20} MiB", 413)
        return None


def cookie_line(sessions: Sessions, session: Session) -> str:
    """The header that sets a session's cookie."""
    return f"{COOKIE}={sessions.cookie(session)}; Path=/; HttpOnly; SameSite=Strict"
