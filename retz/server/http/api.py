"""What every handler gets: the server's core, who asks, and the request's body."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from retz.auth import Verifier
from retz.model.array import parse_task
from retz.model.job import Job
from retz.model.user import User

from ..audit import Actor
from ..problem import Problem
from . import params
from .body import Body

if TYPE_CHECKING:
    from ..core import Core
    from .hub import Hub


class Api:
    """The HTTP layer's own state; one per application.

    Attributes:
        openapi: The OpenAPI document, encoded.
        closing: Set when the server stops: streams end themselves.
        requests: Answers by (method, route, status), for metrics.
        under_way: Signed requests that are not answered yet, by user.
        most_under_way: How many of them a user may have.
    """

    def __init__(self, core: Core, hub: Hub, verifier: Verifier, openapi: bytes, most_under_way: int) -> None:
        self.core = core
        self.hub = hub
        self.verifier = verifier
        self.openapi = openapi
        self.closing = asyncio.Event()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.under_way: dict[str, int] = {}
        self.most_under_way = most_under_way

    def user(self, key: str) -> User | None:
        """The user as recorded now."""
        found: User | None = self.core.db.users.record(key)
        return found

    def welcome(self, user: User) -> bool:
        """Whether the user who signed a request some time ago still could.

        Not so one who was disabled since, whose secret was replaced, or who is no administrator any more.
        """
        now = self.user(user.key)
        if now is user:  # nothing was changed
            return now.enabled
        return now is not None and now.enabled and now.secret == user.secret and now.admin >= user.admin

    def may_go_on(self, user: User) -> bool:
        """Whether a long answer to this user may go on: the server lives, and the user is still welcome."""
        return not self.closing.is_set() and self.welcome(user)


class Call:
    """One request, authenticated."""

    __slots__ = ("api", "body", "core", "request", "user")

    def __init__(self, api: Api, request: web.Request, user: User, body: Body) -> None:
        self.api = api
        self.core = api.core
        self.request = request
        self.user = user
        self.body = body

    @property
    def actor(self) -> Actor:
        """Who asks, and from where: for the audit record."""
        return Actor(self.user, self.request.remote or "")

    def params(self, *allowed: str, repeatable: tuple[str, ...] = ()) -> params.Params:
        """The query's parameters, of which these are allowed."""
        return params.Params(self.request, (*allowed, *repeatable), repeatable)

    def job_id(self) -> int:
        """The ``{id}`` of the path; ``last``: the last submission; ``17_3``: the task with index 3 of array 17."""
        text = self.request.match_info["id"]
        if text != "last":
            task_id = self._task_id(text)
            if task_id is not None:
                return task_id
            return params.integer("id", text, 1, params.MAX_ID)
        newest = self.core.newest(self.user)
        if newest is None:
            raise Problem("not-found", "you have no job yet: submit one with 'retz run -- COMMAND'")
        # Ids of tasks lie above their array's; 'retz kill last' means the whole array, whatever of it has started.
        return self.core.visible(self.user, newest).array_id or newest

    def job(self) -> Job:
        """The job of the path, if the user may see it."""
        return self.core.visible(self.user, self.job_id())

    async def job_to_read(self) -> Job:
        """The job of the path, whose files are about to be read; that an administrator reads another's is on record."""
        job = self.job()
        change = None if self.core.read_only else self.core.audit.read(self.actor, job)
        if change is not None:
            await self.core.dispatcher.apply([change])
        return job

    def _task_id(self, text: str) -> int | None:
        """The job id of ``17_3`` or ``17[3]``; None if it is not written so."""
        try:
            array_id, index = parse_task(text)
        except ValueError:
            return None
        return self.core.task_id(self.user, array_id, index)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
