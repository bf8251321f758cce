"""One method per route: read the request, have the operation done, answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from ..config import EstimatorConfig
from ..errors import BadArgument, DuplicateRecurrenceId, ParseError
from ..lanes import Lanes
from ..operations import Outcome
from . import logs, metrics, queries, replies
from .queries import Parameters, arguments

MAX_DOCUMENT_MB = 64
"""Of history sent as JSON: it is read as a whole."""

PARSERS = ("native", "rm", "retz")


class Service:
    """The handlers, with what they share.

    Attributes:
        requests: (method, route, status) -> how many.
    """

    def __init__(
        self,
        lanes: Lanes,
        store_for: Callable[[web.Request], Awaitable[Path]],
        config: EstimatorConfig,
        *,
        may_read_logs: bool,
    ) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self._lanes = lanes
        self._store_for = store_for
        self._config = config
        self._may_read_logs = may_read_logs

    # -- Hadoop's five routes ------------------------------------------------------------------------------------

    async def translate_path(self, request: web.Request) -> web.Response:
        """``POST translator/{path}``: a log on this machine, as a whole or with an error for what it had before."""
        place = await self._store_for(request)
        arguments(request, {})
        if not self._may_read_logs:
            raise replies.Forbidden("logs on the server's disk are not read here: send them in the body")
        path = await asyncio.to_thread(logs.find, request.match_info["path"], self._config.log_directories)
        report = json.loads((await self._lanes.call(place, "translate", paths=[str(path)])).body)
        if report["badLines"] and not report["jobs"]:
            raise BadArgument(f"nothing in this log could be understood: {report['problems'][0]}")
        if report["duplicates"]:
            first = report["duplicates"][0]
            raise DuplicateRecurrenceId(
                "Trying to addHistory duplicate resource skylines for "
                f"{{pipelineId: {first['pipelineId']}, runId: {first['runId']}}}. Use updateHistory function instead. "
                "(What was new in this log has been added.)"
            )
        return replies.nothing()

    async def estimate(self, request: web.Request) -> web.Response:
        """``GET estimator/{pipeline}``."""
        return await self._ask(request, "estimate", queries.ESTIMATE)

    async def history(self, request: web.Request) -> web.Response:
        """``GET skylinestore/history/{pipeline}/{run}``."""
        return await self._ask(request, "history")

    async def estimation(self, request: web.Request) -> web.Response:
        """``GET skylinestore/estimation/{pipeline}``."""
        return await self._ask(request, "estimation")

    async def delete_history(self, request: web.Request) -> web.Response:
        """``DELETE skylinestore/history/{pipeline}/{run}``."""
        await self._ask(request, "delete_history")
        return replies.nothing()

    # -- history -------------------------------------------------------------------------------------------------

    async def pipelines(self, request: web.Request) -> web.Response:
        """``GET pipelines``."""
        return await self._ask(request, "pipelines")

    async def translate_body(self, request: web.Request) -> web.Response:
        """``POST translator``: the log is the body; the answer tells what became of it."""
        place = await self._store_for(request)
        wishes = arguments(request, queries.UPLOAD)
        if wishes.get("parser", "native") not in PARSERS:
            raise BadArgument(f"the format is one of {', '.join(PARSERS)}, not {wishes['parser'][:40]!r}")
        async with logs.uploaded(request, self._config.upload_limit) as path:
            try:
                outcome = await self._lanes.call(place, "translate", paths=[str(path)], **wishes)
            except ParseError as error:
                raise ParseError(str(error).replace(str(path), "log")) from error
        report = json.loads(outcome.body)
        report["problems"] = [problem.replace(str(path), "log") for problem in report["problems"]]
        return replies.json_document(report)

    async def add_history(self, request: web.Request) -> web.Response:
        """``POST skylinestore/history``: add runs."""
        place = await self._store_for(request)
        arguments(request, {})
        await self._lanes.call(place, "add_history", document=await self._document(request))
        return replies.nothing()

    async def update_history(self, request: web.Request) -> web.Response:
        """``PUT skylinestore/history/{pipeline}/{run}``: replace the jobs of a run."""
        place = await self._store_for(request)
        arguments(request, {})
        document = await self._document(request)
        await self._lanes.call(place, "update_history", document=document, **_names(request))
        return replies.nothing()

    async def delete_estimation(self, request: web.Request) -> web.Response:
        """``DELETE skylinestore/estimation/{pipeline}``; whether there was one makes no difference."""
        await self._ask(request, "delete_estimation")
        return replies.nothing()

    # -- predictions -----------------------------------------------------------------------------------------------

    async def plot(self, request: web.Request) -> web.Response:
        """``GET estimator/{pipeline}/plot.png``, ``.svg``, ``.pdf``."""
        return await self._ask(request, "plot", queries.PLOT)

    async def text(self, request: web.Request) -> web.Response:
        """``GET estimator/{pipeline}/plot.txt``."""
        return await self._ask(request, "text", queries.TEXT)

    async def reservation(self, request: web.Request) -> web.Response:
        """``GET estimator/{pipeline}/reservation``."""
        return await self._ask(request, "reservation", queries.RESERVATION)

    async def backtest(self, request: web.Request) -> web.Response:
        """``GET estimator/{pipeline}/backtest``."""
        return await self._ask(request, "backtest")

    # -- the service itself -----------------------------------------------------------------------------------------

    async def health(self, request: web.Request) -> web.Response:
        """``GET health``."""
        arguments(request, {})
        return replies.json_document({"status": "ok", "version": version("retz"), "pid": os.getpid()})

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET metrics``."""
        arguments(request, {})
        page = metrics.render(self.requests, self._lanes.states())
        return replies.done(Outcome(page.encode(), "text/plain; version=0.0.4; charset=utf-8"))

    async def _ask(self, request: web.Request, operation: str, parameters: Parameters | None = None) -> web.Response:
        place = await self._store_for(request)
        wishes = arguments(request, parameters or {})
        return replies.done(await self._lanes.call(place, operation, **_names(request), **wishes))

    async def _document(self, request: web.Request) -> bytes:
        return await logs.document(request, min(MAX_DOCUMENT_MB, self._config.upload_limit))


def _names(request: web.Request) -> dict[str, Any]:
    """The path's variable parts; percent-encoding is undone once, so that ``%2F`` is a slash in a name."""
    return dict(request.match_info)
