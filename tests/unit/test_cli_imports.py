"""Fast starts: what one-shot commands import is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.api import STATUS, FakeApi

HEAVY = {
    "aiohttp", "asyncio", "httpx", "msgspec", "numpy", "psutil", "scipy", "textual", "tinydb", "uvloop", "logging",
    "matplotlib", "subprocess", "retz.server", "retz.store", "retz.scheduler", "retz.engine", "retz.model.job",
}  # fmt: skip
PROBE = """
import json, sys
from retz.cli.errors import guarded
from retz.cli import cli
code = guarded(cli, sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize("line", ["--version", "--help", "list", "status", "schedule -- x", "kill 1"])
def test_one_shot_commands_import_little(line: str, tmp_path: Path) -> None:
    with FakeApi() as api:
        api.routes = {
            "GET /api/v2/jobs": {"jobs": [], "total": 0, "next": None, "counts": {}, "as_of": 1},
            "GET /api/v2/status": STATUS,
            "POST /api/v2/jobs": {"ids": [1], "replayed": False},
            "POST /api/v2/jobs/kill": {"results": [], "ok": 0, "failed": 0},
        }
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *line.split()],
            env={**api.environment, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert HEAVY & set(modules) == set()
    if line.startswith("--"):
        assert {"http.client", "tomllib"} & set(modules) == set()
