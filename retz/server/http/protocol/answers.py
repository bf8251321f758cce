"""Answers of the old routes: JSON with ``command``, or a sentence as plain text where Retz has one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ...problem import Problem
from ..responses import json_of, shown, text
from .messages import ErrorAnswer

_PLAIN = "text/plain; charset=utf-8"
_WITH_BODY = ("POST", "PUT")


def answer(message: Any, status: int = 200) -> web.Response:
    """Answer with a message."""
    return json_of(message, status)


def error(status: int, sentence: str) -> web.Response:
    """Refuse with an error message."""
    return json_of(ErrorAnswer(shown(sentence)), status)


def plain(status: int, sentence: str) -> web.Response:
    """Refuse with nothing but a sentence, as Retz does for what it finds before the request is looked at."""
    response = text(shown(sentence), _PLAIN)
    response.set_status(status)
    return response


def refusal(request: web.Request, problem: Problem) -> web.Response:
    """A refusal of ours as an old client can show it.

    A 401 to a request with a body never reaches the user of a Java client: its library drops the answer's body. So
    those are 403.
    """
    if problem.code == "unauthorized":
        return plain(403 if request.method in _WITH_BODY else 401, problem.detail)
    if problem.code == "forbidden":
        return plain(403, problem.detail)
    status = 400 if problem.code == "unprocessable" else problem.status
    return error(status, problem.detail)
