"""``--on-end`` with a real server: nothing that was promised is lost by ``kill -9``, and a person sees how it went."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from retz.client import Client
from retz.server.notify.lines import PER_USER
from tests.server_process import ServerProcess

JOBS = 12


class Receiver(ThreadingHTTPServer):
    """Remembers the documents it was sent. While ``deaf`` it takes a call and never answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents: list[dict[str, Any]] = []
        self.deaf = False
        self.told = threading.Condition()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The documents, once there are so many different ones."""
        with self.told:
            assert self.told.wait_for(lambda: len({d["id"] for d in self.documents}) >= count, 60), self.documents
            return list(self.documents)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        deaf = self.server.deaf
        with self.server.told:
            self.server.documents.append(document)
            self.server.told.notify_all()
        if deaf:
            self.server.closing.wait()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield running
    running.closing.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path / "home", settings={"RETZ_NOTIFY_ALLOW": "127.0.0.1", "RETZ_LOCAL_CPUS": "4"})
    running.start()
    yield running
    running.destroy()


def client(server: ServerProcess) -> Client:
    key, secret = server.credentials()
    return Client(uri=server.uri, key=key, secret=secret)


def test_a_server_killed_between_the_end_and_the_call_tells_it_after_its_restart(
    server: ServerProcess, receiver: Receiver
) -> None:
    receiver.deaf = True
    with client(server) as retz:
        ids = retz.submit_many(["true"] * JOBS, on_end=receiver.url, mem="20m").ids
        for job_id in ids:
            assert retz.wait(job_id, 60).over
        receiver.wait_for(1)
    server.kill()
    receiver.deaf = False
    server.start()
    documents = receiver.wait_for(JOBS)
    assert {document["job"]["id"] for document in documents} == set(ids)
    assert {document["job"]["state"] for document in documents} == {"FINISHED"}
    assert len(documents) <= JOBS + PER_USER, "only what was under way is told twice"


def test_a_person_sees_whether_it_was_told(server: ServerProcess, receiver: Receiver) -> None:
    def retz(*words: str) -> str:
        command = [str(Path(sys.executable).parent / "retz"), *words]
        done = subprocess.run(
            command, env=server.environment, capture_output=True, text=True, timeout=60, cwd=server.home
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    retz("run", "--on-end", receiver.url, "--sandbox", "--mem", "20m", "--", "true")
    receiver.wait_for(1)
    with client(server) as sdk:
        while (news := sdk.job("last").news) is None or news[0].state == "waiting":
            assert sdk.job("last").news
    shown = retz("get-job", "last")
    port = receiver.server_address[1]
    (line,) = [line for line in shown.splitlines() if line.startswith("on end")]
    assert f"http://127.0.0.1:{port}/<masked>: delivered, " in line and line.endswith("1 call") and "hook" not in line
    assert "/hook" not in server.log()
