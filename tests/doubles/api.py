"""A scripted native API over real sockets: says what a test tells it to, breaks when told, checks every signature."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from retz.auth import AuthError, Verifier
from retz.config import ClientConfig

KEY, SECRET = "ann", "sesame"

JOB: dict[str, Any] = {
    "id": 12, "state": "FINISHED", "held": False, "owner": KEY, "application": "default", "name": "",
    "command": "echo hello",
    "tags": [], "priority": 0, "resources": {"cpus": 1.0, "mem": 512, "disk": 0, "gpus": 0, "ports": 0},
    "environment": {"MY_TOKEN": "<masked>", "K": "v"}, "attributes": "", "directory": None, "timeout_s": None,
    "kill_grace_s": 5.0, "max_retries": 5, "pipeline": None, "run": None, "resubmit_of": None,
    "submitted": "2026-11-20T06:27:17.123Z", "started": "2026-11-20T06:27:18.000Z", "ended": "2026-11-20T06:28:18.500Z",
    "reason": None, "message": None, "exit_code": 0, "signal": None, "losses": 0, "kill_requested": None, "why": None,
    "agent": "n17", "gpus": [], "ports": [],
    "usage": {"cpu_s": 1.5, "max_rss_mb": 20.0, "gpu_util": None, "gpu_mem_mb": None},
    "attempts": [{"number": 1, "task": "12.1", "agent": "n17", "launched": "2026-11-20T06:27:17.9Z",
                  "started": "2026-11-20T06:27:18.000Z", "ended": "2026-11-20T06:28:18.500Z", "exit_code": 0,
                  "signal": None, "reason": None, "message": None, "gpus": [], "ports": [], "usage": None}],
}  # fmt: skip
"""A job as docs/api.md shows it."""

RESOURCES: dict[str, Any] = {"cpus": 2.0, "mem": 2048, "disk": 0, "gpus": 0, "ports": 0}
STATUS: dict[str, Any] = {
    "version": "0.1.0", "engine": "local", "mode": "open", "queued": 3, "held": 1, "starting": 0,
    "started": 2, "agents": 1,
    "total": RESOURCES, "used": RESOURCES, "seq": 7, "started_at": "2026-11-20T06:00:00.000Z", "planner": "fifo",
    "read_only": None, "engine_failure": None, "estimator_failure": None,
    "user": {"key": "ann", "admin": True, "info": ""}, "host": "n1",
    "same_host_token": "token", "local": True, "limits": {},
}  # fmt: skip
"""A queue as docs/api.md shows it."""


RUN: dict[str, Any] = {
    "run": "20261120-062717-12", "start": "2026-11-20T06:27:17.000Z", "duration_s": 10,
    "allocated": {"memory": 2048, "vcores": 2}, "used": {"memory": 700.0, "vcores": 1.25},
}  # fmt: skip
"""A run of a pipeline as docs/api.md shows it."""

_PLAN: dict[str, Any] = {"resourceAllocation": {"0": {"memory": 2048, "vcores": 2}, "10": {"memory": 0, "vcores": 0}}}
_SUMS: dict[str, float] = {"memory": 20480.0, "vcores": 20.0}
PREDICTION: dict[str, Any] = {
    "pipeline": "p", "solver": "fast", "kind": "allocated",
    "settings": {"solver": "fast", "alpha": 0.1, "beta": 0.1, "min_runs": 2, "interval": 5, "kind": "allocated"},
    "runs": ["a", "b"], "ignored": ["c"], "history": "d1", "objective": 0.0, "gap": 0.0, "skyline": _PLAN,
    "confidence": {"runs": 2, "lower": _PLAN, "upper": _PLAN, "over": {"memory": 2048.0, "vcores": 2.0},
                   "under": {"memory": 0.0, "vcores": 0.0}, "needed": _SUMS, "fixed": _SUMS,
                   "left_out_error": {"memory": 0.25, "vcores": 0.5}, "left_out_runs": 2},
}  # fmt: skip
"""A prediction as docs/api.md shows it."""


def job(**changes: Any) -> dict[str, Any]:
    """Return the job with changes."""
    return {**JOB, **changes}


def problem(status: int, code: str, detail: str, **more: Any) -> Answer:
    """Return a refusal."""
    return Answer({"type": f"urn:retz:{code}", "title": code, "status": status, "detail": detail, **more}, status)


class Request(NamedTuple):
    """What came in. ``query`` holds the last value of each name, ``body`` the decoded JSON."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Answer(NamedTuple):
    """What goes out.

    Attributes:
        body: JSON, bytes, or an iterator of bytes that are sent as chunks as they come.
        cut: Break the connection after the body: no length, or no last chunk.
    """

    body: Any = None
    status: int = 200
    cut: bool = False


DROP = Answer(None, 0)
"""Close the connection without a word."""

Route = Callable[[Request], Any]


class FakeApi:
    """Use it in ``with``. ``routes`` maps ``"GET /api/v2/jobs/12"`` to JSON, an Answer, a list of those (one per
    request, the last one for ever), or a function of the request."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.requests: list[Request] = []
        self._verifier = Verifier({KEY: (SECRET, True)}.get, time.time)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def config(self) -> ClientConfig:
        """A client's configuration for it."""
        return ClientConfig(
            server_uri=self.uri, access_key=KEY, access_secret=SECRET, server_timeout=10.0, server_retry=10.0
        )

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead a client here."""
        return {"RETZ_SERVER_URI": self.uri, "RETZ_ACCESS_KEY": KEY, "RETZ_ACCESS_SECRET": SECRET}

    def asked(self, route: str) -> list[Request]:
        """The requests of one route, in order."""
        return [r for r in self.requests if f"{r.method} {r.path}" == route]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """Choose what to say."""
        with self._lock:
            self.requests.append(request)
            found = self.routes.get(f"{request.method} {request.path}")
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(request)
        if found is None:
            return problem(404, "not-found", f"nothing at {request.method} {request.path}")
        return found if isinstance(found, Answer) else Answer(found)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                if parts.path.startswith("/api/"):
                    try:
                        fake._verifier.check(self.command, self.path, dict(self.headers), body)
                    except AuthError as error:
                        self._send(problem(error.status, "unauthorized", error.detail))
                        return
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                decoded = json.loads(body) if body else None
                self._send(fake.answer(Request(self.command, parts.path, query, decoded, dict(self.headers))))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def _send(self, answer: Answer) -> None:
                if answer is DROP:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                if isinstance(answer.body, Iterator):
                    self._send_chunks(answer)
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_header("Content-Length", str(len(data) + (1 if answer.cut else 0)))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = self.close_connection or answer.cut

            def _send_chunks(self, answer: Answer) -> None:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for data in answer.body:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
                if answer.cut:
                    self.close_connection = True
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                """Tests look at ``requests``."""

        return Handler
