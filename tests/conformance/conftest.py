"""``--mesos HOST:PORT``: compare a real Mesos with the recordings, not the double."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mesos", metavar="HOST:PORT", help="a Mesos master to compare with the recordings")


@pytest.fixture
def mesos(request: pytest.FixtureRequest) -> tuple[str, int] | None:
    """The real master to ask; None: the double is asked."""
    given = request.config.getoption("--mesos")
    if given is None:
        return None
    host, _, port = str(given).rpartition(":")
    return host, int(port)
