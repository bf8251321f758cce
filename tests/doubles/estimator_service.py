"""A running estimator service: the real program, on a free port, asked over real HTTP."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from estimator.config import EstimatorConfig
from estimator.service import PREFIX

TWO_RUNS = (
    "tpch_q12 50 1462148517000 1462148527345 1462148952345 tpch_q12_0 8192:0| 1:0|1:5|1074:10|2538:15|2468:20|\n"
    "tpch_q12 50 1462148949000 1462148960455 1462149205455 tpch_q12_1 8192:0| 1:0|1:5|794:10|2517:15|2484:20|\n"
)
"""The sample of Hadoop's page: two runs of TPC-H query 12, in the native format."""

SERVE = "import pickle, sys; from estimator import daemon; sys.exit(daemon.serve(pickle.load(sys.stdin.buffer)))"
TIMEOUT_S = 30.0


class Reply(NamedTuple):
    """What came back."""

    status: int
    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        assert self.kind == "application/json"
        return json.loads(self.body)

    @property
    def exception(self) -> str:
        """Name of the exception of an error."""
        error = self.json["RemoteException"]
        assert set(error) == {"exception", "message", "javaClassName"}
        assert error["javaClassName"].endswith("." + error["exception"])
        return str(error["exception"])


class Client:
    """Asks one service."""

    def __init__(self, address: str) -> None:
        self.address = address
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request; the path is sent as it is."""
        connection = self.send(method, path, body, headers)
        try:
            response = connection.getresponse()
            return Reply(response.status, response.getheader("Content-Type", ""), response.read())
        finally:
            connection.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPConnection:
        """A request whose answer was not read."""
        connection = HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        connection.request(method, f"{PREFIX}/{path}", body, dict(headers or {}))
        return connection

    def get(self, path: str) -> Reply:
        """GET."""
        return self.ask("GET", path)

    def metric(self, name: str) -> float:
        """One figure of the metrics page."""
        lines = self.get("metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])


@contextmanager
def running(config: EstimatorConfig) -> Iterator[Client]:
    """The service, until the end of the block, where it must end cleanly."""
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            process.stdin.write(pickle.dumps(config))
            process.stdin.close()
            line = process.stdout.readline().decode().strip()
            assert line.startswith("listening on http://127.0.0.1:")
            yield Client(line.removeprefix("listening on "))
        except BaseException:
            process.kill()
            raise
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
