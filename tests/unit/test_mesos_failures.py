"""What a failed connection is called."""

from __future__ import annotations

import errno
import socket
from unittest.mock import Mock

import aiohttp
import pytest

from retz.engine.mesos.failures import words_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("no JSON"), "no JSON"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
        (
            aiohttp.ClientConnectorError(Mock(), ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")),
            "Connection refused",
        ),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
    ],
)
def test_words(error: BaseException, words: str) -> None:
    assert words_of(error) == words
