"""The operator's command: what it gets, and what it cannot do to the server."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from retz.server.notify import command as commands
from retz.server.notify.command import AT_ONCE, Command, Work
from retz.server.notify.notifier import Notifier

from .http_site import ANN, BOB, running_site

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (a process tells nobody)
            await asyncio.sleep(0.001)


def work(number: int = 1, data: bytes = b"{}") -> Work:
    return Work("ended", number, lambda: data)


def here(pid_file: Path) -> bool:
    """Whether the process that wrote its id there still runs."""
    pid = int(pid_file.read_text())
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_everybodys_ended_jobs_are_handed_to_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    line = f"cat > {out}/$RETZ_JOB_ID.part; env > {out}/env; mv {out}/$RETZ_JOB_ID.part {out}/$RETZ_JOB_ID.$RETZ_EVENT"
    out.mkdir()
    async with running_site(tmp_path / "data", {"retz.notify.command": line}) as site:
        monkeypatch.setenv("RETZ_ACCESS_SECRET", "the server's")
        notifier = Notifier(site.core)
        await notifier.start()
        ids = []
        for user, code in ((ANN, 0), (BOB, 3)):
            job_id = await site.running("$(touch x); '\"`", user, environment={"MINE": "secret"})
            site.engine.ended(f"{job_id}.1", code)
            ids.append(job_id)
        await until(lambda: site.core.outbox.tally.commands["ok"] == 2)
        await notifier.stop()
        page = (await site.ask("GET", "/metrics", None)).body.decode()
    documents = [json.loads((out / f"{job_id}.ended").read_text()) for job_id in ids]
    assert [(d["event"], d["job"]["owner"], d["job"]["state"]) for d in documents] == [
        ("ended", "ann", "FINISHED"), ("ended", "bob", "FAILED"),
    ]  # fmt: skip
    assert "secret" not in json.dumps(documents) and "the server's" not in (out / "env").read_text()
    assert 'retz_notify_command_total{result="ok"} 2\n' in page


async def test_a_few_run_at_a_time_and_all_in_the_end(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    gate = tmp_path / "gate"
    program = f"import os,time\nopen({str(tmp_path)!r}+'/'+os.environ['RETZ_JOB_ID'],'w')\n"
    program += f"while not os.path.exists({str(gate)!r}): time.sleep(0.005)"
    command = Command(f"exec {sys.executable} -S -c {shlex.quote(program)}", counts)
    for number in range(AT_ONCE + 3):
        command.offer(work(number))
    await until(lambda: len(list(tmp_path.iterdir())) == AT_ONCE)
    gate.touch()
    await until(lambda: counts["ok"] == AT_ONCE + 3)
    command.offer(work(99))
    await until(lambda: counts["ok"] == AT_ONCE + 4)
    await command.stop()


async def test_one_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    pid = tmp_path / "pid"
    command = Command(f"sleep 1000 & echo $! > {pid}; wait", counts, timeout_s=1.0)
    command.offer(work())
    await until(lambda: counts["timeout"] == 1)
    await until(lambda: not here(pid))
    await command.stop()


async def test_a_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    pid = tmp_path / "pid"
    command = Command(f"trap '' TERM; echo $$ > {pid}; sleep 1000", counts)
    command.offer(work())
    await until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    await command.stop()
    assert not here(pid) and not counts


async def test_a_stop_in_the_middle_of_a_start_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, gate, pid = asyncio.create_subprocess_exec, asyncio.Event(), tmp_path / "pid"

    async def slow_start(*words: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*words, **options)
        await gate.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_start)
    command = Command(f"sleep 1000 & echo $! > {pid}; wait", Counter())
    command.offer(work())
    await until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    stopping = asyncio.ensure_future(command.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    await until(lambda: not here(pid))


@pytest.mark.parametrize("line", ["exit 3", "/no/such/program", "kill -9 $$"])
async def test_failures_are_counted_and_stop_nothing(line: str, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    command = Command(line, counts)
    for number in range(3):
        command.offer(work(number))
    await until(lambda: counts["failed"] == 3)
    await command.stop()


async def test_a_command_that_reads_nothing_and_large_documents(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    command = Command("exit 0", counts)
    command.offer(work(1, b"x" * 2_000_000))
    await until(lambda: counts["ok"] == 1)
    sizes = tmp_path / "size"
    command = Command(f"wc -c > {sizes}", counts)
    command.offer(work(2, b"x" * 2_000_000))
    await until(lambda: counts["ok"] == 2)
    assert sizes.read_text().strip() == "2000000"
    await command.stop()


async def test_what_comes_too_fast_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_WAITING", 5)
    counts: Counter[str] = Counter()
    command = Command("sleep 1000", counts)
    for number in range(20):
        command.offer(work(number))
    assert counts["dropped"] == 15
    await command.stop()


async def test_a_document_that_cannot_be_made_is_a_failure_and_no_more(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()

    def broken() -> bytes:
        raise KeyError("a mistake")

    command = Command("cat >/dev/null", counts)
    command.offer(Work("ended", 1, broken))
    command.offer(work(2))
    await until(lambda: counts == {"failed": 1, "ok": 1})
    await command.stop()
