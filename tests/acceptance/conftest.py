"""Real servers, each with a home of its own, and the commands that people type at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess

MakeServer = Callable[..., ServerProcess]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers that are not started yet; all are destroyed at the end, whatever became of them."""
    made: list[ServerProcess] = []

    def make(name: str = "home", **options: Any) -> ServerProcess:
        server = ServerProcess(tmp_path / name, **options)
        made.append(server)
        return server

    yield make
    for server in made:
        server.destroy()


@pytest.fixture
def server(make_server: MakeServer) -> ServerProcess:
    """One running server with four processors to give."""
    running = make_server(
        settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g", "RETZ_CONTAINER_RUNTIME": "no-such-runtime"}
    )
    running.start()
    return running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same, for all tests of a module that leave it as they find it."""
    running = ServerProcess(
        tmp_path_factory.mktemp("shared") / "home",
        settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g", "RETZ_CONTAINER_RUNTIME": "no-such-runtime"},
    )
    try:
        running.start()
        yield running
    finally:
        running.destroy()
