"""Where the password is asked for, on a studio that other machines can reach."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from foreword.studio.guard import cookie_line
from foreword.studio.pages import checked_form, page, text_of, workspace
from foreword.studio.password import is_password
from foreword.studio.sessions import Sessions

router = APIRouter()
WRONG_SECONDS = 1.0


@router.get("/login")
def ask(request: Request) -> Response:
    """The form."""
    return page(request, "login.html", wrong=False)


@router.post("/login")
def enter(request: Request, form: Annotated[FormData, Depends(checked_form)]) -> Response:
    """A new session for who knows the password; a wrong one takes a second."""
    sessions: Sessions = request.app.state.sessions
    if not is_password(workspace(request).root, text_of(form, "password")):
        time.sleep(WRONG_SECONDS)
        return page(request, "login.html", 403, wrong=True)
    answer = RedirectResponse("/", 303)
    answer.headers.append("Set-Cookie", cookie_line(sessions, sessions.new(entered=True)))
    return answer
