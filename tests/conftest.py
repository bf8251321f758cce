"""What all tests share: nobody's real home directory or configuration is ever touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "RETZ_SERVER_URI", "RETZ_ACCESS_KEY", "RETZ_ACCESS_SECRET"):
        monkeypatch.delenv(name, raising=False)
    if os.geteuid() == 0:  # a server of root's must be told
        monkeypatch.setenv("RETZ_LOCAL_USER", "root")
        monkeypatch.setenv("RETZ_MESOS_USER", "root")
    return home


@pytest.fixture
def anyio_backend() -> str:
    """The loop that server and window are made for."""
    return "asyncio"
