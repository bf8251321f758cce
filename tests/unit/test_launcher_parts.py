"""Small parts of the launcher: paths, claims, programs, processes, messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retz.engine.local import cgroup, job, launcher, processes, sandbox, spawn
from retz.engine.local.followers import Followers
from retz.engine.local.job import Job


@pytest.mark.parametrize("task", ["", "1", "1.", ".1", "../1.1", "1/2.3", "1.1/..", "-1.1", "1.1.1", "1.x", "\u0661.1"])
def test_nothing_but_task_ids_becomes_a_path(task: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        sandbox.sandbox_path(task)


def test_sandboxes_are_spread_over_directories() -> None:
    assert sandbox.sandbox_path("999.1") == "sandboxes/0/999.1"
    assert sandbox.sandbox_path("1000.12") == "sandboxes/1/1000.12"


def test_only_one_claim_succeeds(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    path = sandbox.sandbox_path("5001.1")
    (tmp_path / path).mkdir(parents=True)  # somebody died between making it and the claim
    os.close(sandbox.claim(path, here))
    with pytest.raises(FileExistsError):
        sandbox.claim(path, here)
    os.close(sandbox.claim(sandbox.sandbox_path("6001.1"), here))
    os.close(here)


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "tool").write_text("")  # not executable: passed over
    (tmp_path / "b" / "tool").write_text("")
    (tmp_path / "b" / "tool").chmod(0o755)
    (tmp_path / "a" / "dir").mkdir()
    path = f"{tmp_path}/a:{tmp_path}/b"
    assert spawn.find_program("tool", path) == f"{tmp_path}/b/tool"
    assert spawn.find_program("./x", path) == "./x"
    with pytest.raises(spawn.StartError, match="chmod") as refused:
        spawn.find_program("tool", f"{tmp_path}/a")
    assert refused.value.exit_code == 126
    for name in ("dir", "none"):
        with pytest.raises(spawn.StartError, match="not found") as missing:
            spawn.find_program(name, path)
        assert missing.value.exit_code == 127


def test_a_stat_line_is_read_whatever_the_program_is_called(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"], start_new_session=True) as process:
        stat = processes.read_stat(process.pid)
        process.kill()
    assert stat is not None
    assert stat[:2] == (os.getpid(), process.pid)
    assert processes.read_stat(process.pid) is None


def test_a_signal_never_hits_a_successor() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        stat = processes.read_stat(process.pid)
        assert stat is not None
        assert not processes.send(process.pid, stat[3] + 1, [9])
        assert process.poll() is None
        assert processes.send(process.pid, stat[3], [9])
        assert process.wait() == -9
    assert not processes.send(process.pid, stat[3], [9])


def test_strays_are_known_by_mark_or_by_record() -> None:
    marked = subprocess.Popen(["sleep", "60"], env={"RETZ_LAUNCHER": "local-strays-test"})
    recorded = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE)
    other = subprocess.Popen(["sleep", "60"], env={"RETZ_LAUNCHER": "local-strays-test-2"})
    assert recorded.stdout is not None and recorded.stdout.readline() == b"\n"
    stat, wrong = processes.read_stat(recorded.pid), processes.read_stat(other.pid)
    assert stat is not None and wrong is not None
    leaders = {recorded.pid: (stat[3], stat[3]), other.pid: (wrong[3] - 9, wrong[3] - 1)}
    try:
        assert processes.end_strays("local-strays-test", leaders) == 3  # the second one has a child
        assert marked.wait() == -9
        assert recorded.wait() in (-9, 0)  # 0: its child was ended first, and it before its own turn came
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        recorded.stdout.close()


def test_a_kill_by_the_kernel_is_oom() -> None:
    class Kernel(launcher.Launcher):
        def __init__(self, kills: int) -> None:
            self.oom_kills = kills

    now = processes.kernel_oom_kills()
    for before, verdict in ((now, None), (now - 1, "oom")):
        task = Job("1.1", 10, "", started=0.0, born=0.0, interval_s=5.0)
        task.over(137 << 8, 0.1, 2048 * 1024, 1.0, 1.0)  # a shell's word for it
        assert task.killed_by(9) and not task.killed_by(15)
        task.over(9, 0.1, 2048 * 1024, 1.0, 1.0)
        assert task.killed_by(9) and not task.killed_by(15)
        Kernel(before)._blame_kernel(task)
        assert task.verdict == verdict
    assert "it used 2G" in (task.message or "")


def test_descendants_are_walked_once() -> None:
    table: processes.Table = {pid: (parent, 1, 0.0, 1, 1, b"S") for pid, parent in ((2, 1), (3, 2), (4, 3), (9, 8))}
    assert processes.descend(processes.children_of(table), [2]) == [2, 3, 4]
    assert processes.descend(processes.children_of(table), [8]) == [8, 9]


def test_groups_of_others_are_left_alone(tmp_path: Path) -> None:
    group = tmp_path / "some.service"
    group.mkdir()
    (group / "cgroup.kill").touch()
    assert cgroup.end_all(str(group), "local-1")
    assert (group / "cgroup.kill").read_text() == ""
    assert cgroup.end_all(str(tmp_path / "retz-local-1-77"), "local-1")  # gone already


@pytest.mark.parametrize(("mib", "text"), [(512, "512M"), (2150.4, "2.1G"), (2048, "2G"), (0.4, "0M")])
def test_sizes_in_messages(mib: float, text: str) -> None:
    assert job.size(mib) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0.2s"), (30, "30s"), (90, "1:30 minutes"), (7500, "2:05:00"), (86400, "24:00:00")]
)
def test_durations_in_messages(seconds: float, text: str) -> None:
    assert job.duration(seconds) == text


def test_the_launcher_imports_next_to_nothing() -> None:
    """It starts in milliseconds and stays small: typing, asyncio, pathlib and friends must not creep in."""
    root = Path(launcher.__file__).parents[3]
    code = f"import sys; sys.path.append({str(root)!r}); import retz.engine.local.takeover; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert not loaded & {"typing", "asyncio", "pathlib", "dataclasses", "logging", "subprocess", "threading", "msgspec"}
    ours = {name for name in loaded if name.startswith("retz")}
    parts = {"cgroup", "followers", "job", "launcher", "leftovers", "line", "orphans", "prepare", "processes"}
    parts |= {"records", "sandbox", "spawn", "system", "takeover"}
    assert ours == {
        "retz",
        "retz.engine",
        "retz.engine.local",
        "retz.engine.series",
        *(f"retz.engine.local.{part}" for part in parts),
    }


def test_who_waits_in_line_is_taken_once_or_withdrawn_with_those_behind() -> None:
    line = Followers()
    for after, task in (("1.1", "2.1"), ("1.1", "3.1"), ("2.1", "4.1"), ("4.1", "5.1")):
        line.add(after, [task, "true"])
    assert all(task in line for task in ("2.1", "3.1", "4.1", "5.1")) and "1.1" not in line
    assert line.withdraw("9.1") == []
    assert line.withdraw("2.1") == ["5.1", "4.1", "2.1"], "the last first: nobody is left who waits for nobody"
    assert not any(task in line for task in ("2.1", "4.1", "5.1"))
    assert (line.take("2.1"), line.take("4.1")) == ([], [])
    assert line.take("1.1") == [["3.1", "true"]]
    assert "3.1" not in line, "it has begun: who comes after it waits for its end, not for its turn"
    assert line.take("1.1") == []
    line.add("1.1", ["6.1", "true"])
    line.clear()
    assert "6.1" not in line and line.take("1.1") == []
