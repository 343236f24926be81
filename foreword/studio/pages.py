"""Templates in the language and the colours of whoever looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, pass_context
from jinja2.runtime import Context
from starlette.datastructures import FormData

from foreword.errors import ForewordError
from foreword.messages import Message, languages, said_in, template
from foreword.progress import duration
from foreword.studio.sessions import Session, Sessions
from foreword.studio.workspace import Workspace

ENGLISH = "en"
THEMES = ("light", "dark")


class Forged(ForewordError):
    """A form that no page of this session sent."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("foreword.studio"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = _translated
    environment.filters |= {"say": _said, "mib": _mib, "duration": duration, "percent": lambda x: f"{100 * x:.0f}%"}
    return environment


def page(request: Request, name: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A template as the answer to a request."""
    sessions: Sessions = request.app.state.sessions
    session: Session = request.state.session
    told = {
        "lang": language(request),
        "theme": request.cookies.get("theme") if request.cookies.get("theme") in THEMES else "",
        "path": request.url.path,
        "csrf": sessions.token(session),
        "workspace": workspace(request),
        **values,
    }
    return HTMLResponse(_environment().get_template(name).render(told), status)


def workspace(request: Request) -> Workspace:
    """The studio's workspace."""
    held: Workspace = request.app.state.workspace
    return held


def language(request: Request) -> str:
    """The language that was switched to, or the first that the browser asks for and that we speak."""
    return language_of(request.cookies.get("lang"), request.headers.get("accept-language", ""))


def language_of(chosen: str | None, accepted: str) -> str:
    """``zh`` or ``en``.

    >>> language_of(None, "fr;q=0.9, zh-CN;q=0.8, en;q=0.5"), language_of("en", "zh")
    ('zh', 'en')
    """
    known = (ENGLISH, *languages())
    if chosen in known:
        return str(chosen)
    asked = []
    for part in accepted.split(","):
        name, _, rest = part.strip().partition(";")
        try:
            weight = float(rest.partition("q=")[2] or 1)
        except ValueError:
            weight = 0.0
        asked.append((-weight, name.split("-")[0].lower()))
    return next((name for _, name in sorted(asked, key=lambda pair: pair[0]) if name in known), ENGLISH)


async def checked_form(request: Request) -> AsyncIterator[FormData]:
    """The form of a request, its files closed behind it. Raises Forged where it lacks the session's token."""
    sessions: Sessions = request.app.state.sessions
    async with request.form(max_files=4, max_fields=2000, max_part_size=4 << 20) as form:
        if not sessions.is_token(request.state.session, form.get("csrf", "")):
            raise Forged("the page is from another session", hint="reload it and send it again")
        yield form


def text_of(form: Mapping[str, Any], name: str, most: int = 100_000) -> str:
    """A field of a form as text; "" where it is not there."""
    value = form.get(name, "")
    return value.replace("\r\n", "\n")[:most] if isinstance(value, str) else ""


@pass_context
def _translated(context: Context, text: str, **arguments: Any) -> str:
    """A text of a template's in the page's language."""
    return said_in(Message(text, **arguments), context["lang"])


@pass_context
def _said(context: Context, text: object) -> str:
    """A text of the program's, or anything else as it is."""
    if isinstance(text, Message):
        return text.render(context["lang"])
    if " " not in str(text) and str(text).islower():  # a value such as a column's name, and no sentence
        return str(text)
    other = template(str(text), context["lang"])
    return str(text) if other is None else other


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 / 10 else f"{size / 2**10:,.1f} KiB"
