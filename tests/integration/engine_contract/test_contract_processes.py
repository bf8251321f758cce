"""What an engine that runs real processes owes the server besides."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from retz.engine.base import Assignment, KnownTask
from retz.model.resources import Resources

from .site import Site, alive, until


async def output(site: Site, task: str = "1.1", name: str = "stdout") -> str:
    reader = await site.engine.open_file(task, name, site.agent)
    try:
        return (await reader.read(0, 1 << 20)).decode()
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("command", "code", "number"),
    [
        ("true", 0, None),
        ("exit 3", 3, None),
        ("exit 255", 255, None),
        (("sh", "-c", "exit 4"), 4, None),
        ("kill -TERM $$", None, signal.SIGTERM),
        ("kill -KILL $$", None, signal.SIGKILL),
        ("kill -SEGV $$", None, signal.SIGSEGV),
    ],
)
def test_the_true_result_is_kept(real: Site, command: str | tuple[str, ...], code: int | None, number: int) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run(command)
        assert (end.kind, end.exit_code, end.signal, end.reason) == ("ended", code, number, None)

    real.play(scenario)


def test_started_is_told_before_a_long_task_ends(real: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("sleep 60"))
        news = await site.recorder.started("1.1")
        site.engine.kill("1.1", 0.0)
        end = await site.recorder.final("1.1")
        assert end.started == news.started == news.at

    real.play(scenario)


def test_streams_environment_and_directory(local: Site, tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.run("echo out; echo err >&2; cat; pwd; echo $RETZ_SANDBOX $RETZ_TASK $X", environment={"X": "x y"})
        box = site.sandbox()
        assert await output(site) == f"out\n{box}\n{box} 1.1 x y\n"
        assert await output(site, name="stderr") == "err\n"
        await site.run("pwd", "2.1", directory=str(tmp_path))
        assert await output(site, "2.1") == f"{tmp_path}\n"

    local.play(scenario)


def test_a_job_inherits_nothing_of_ours(local: Site) -> None:
    async def scenario(site: Site) -> None:
        os.environ["PYTHONPATH"] = "/nowhere"
        try:
            await site.run("env -0 | tr '\\0' '\\n' | cut -d= -f1 | sort | tr '\\n' ' '; echo /proc/self/fd/* | wc -w")
        finally:
            del os.environ["PYTHONPATH"]
        names, fds = (await output(site)).split("\n")[0].rsplit(" ", 1)
        expected = {"CUDA_VISIBLE_DEVICES", "HOME", "PATH", "PWD", "RETZ_LAUNCHER", "RETZ_SANDBOX", "RETZ_TASK", "_"}
        assert set(names.split()) - {"OLDPWD", "SHLVL", "LC_CTYPE"} <= expected
        assert int(fds) == 4  # three streams and the directory that the shell reads
        await site.run("grep -E '^Sig(Ign|Blk)' /proc/self/status", "2.1")
        masks = [int(line.split()[1], 16) for line in (await output(site, "2.1")).splitlines()]
        of_the_c_library = 1 << 31 | 1 << 32  # signals 32 and 33, which its posix_spawn ignores
        assert [mask & ~of_the_c_library for mask in masks] == [0, 0]

    local.play(scenario)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("no-such-program",), 127, "not found"),
        (("/no/such/program",), 127, "not found"),
        (("/etc/passwd",), 126, "not executable"),
        (("/tmp",), 126, "directory"),
        (("",), 127, "not found"),
        (("true", "zero\0byte"), 126, "null"),
        (("true", "x" * 200_000), 126, "too long"),
    ],
)
def test_what_cannot_start_says_why(local: Site, command: tuple[str, ...], code: int, words: str) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run(command)
        assert (end.kind, end.exit_code, end.reason) == ("ended", code, "start")
        assert words in (end.message or "")
        assert (await site.run("true", "2.1")).exit_code == 0

    local.play(scenario)


def test_a_missing_directory_or_interpreter_says_so(local: Site, tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run("true", directory=str(tmp_path / "gone"))
        assert (end.exit_code, end.reason) == (127, "start")
        assert str(tmp_path / "gone") in (end.message or "")
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        end = await site.run((str(script),), "2.1")
        assert (end.exit_code, end.reason) == (127, "start") and "interpreter" in (end.message or "")
        script.write_text("exit 5\n")  # no first line: what a shell does with it
        assert (await site.run((str(script),), "3.1")).exit_code == 5
        assert (await site.run(("script",), "4.1", environment={"PATH": f"/x::{tmp_path}"})).exit_code == 5

    local.play(scenario)


STUBBORN = """
trap '' TERM
(trap '' TERM; setsid sh -c 'trap "" TERM; echo $$ >a; while :; do sleep 1; done') &
(setsid setsid sh -c 'trap "" TERM; echo $$ >b; while :; do sleep 1; done' &) &
while [ ! -s a ] || [ ! -s b ]; do sleep 0.01; done
echo $$ >c
while :; do sleep 1; done
"""


def test_a_kill_ends_a_tree_that_ignores_it_and_hides_in_other_sessions(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task(STUBBORN))
        box = site.sandbox()
        await until(lambda: (box / "c").exists() and (box / "c").read_text())
        pids = [int((box / name).read_text()) for name in "abc"]
        site.engine.kill("1.1", 0.2)
        end = await site.recorder.final("1.1")
        assert end.signal == signal.SIGKILL
        assert not [pid for pid in pids if alive(pid)]

    local.play(scenario)


def test_a_kill_leaves_the_grace_to_those_who_use_it(local: Site) -> None:
    async def scenario(site: Site) -> None:
        # The shell dies at once; its child takes its time to clean up, and gets it.
        command = "sh -c 'trap \"echo cleaned >done; exit 0\" TERM; echo >up; while :; do sleep 0.02; done' & wait"
        await site.launch(site.task(command))
        await until((site.sandbox() / "up").exists)
        site.engine.kill("1.1", 15.0)
        end = await site.recorder.final("1.1")
        assert end.signal == signal.SIGTERM
        assert (site.sandbox() / "done").read_text() == "cleaned\n"

    local.play(scenario)


def test_what_a_job_leaves_behind_is_ended_with_it(local: Site) -> None:
    async def scenario(site: Site) -> None:
        command = (
            "setsid sh -c 'echo $$ >a; sleep 60' & (env -i setsid sleep 61 &); while [ ! -s a ]; do sleep 0.01; done"
        )
        await site.launch(site.task("sleep 62", "2.1"))
        assert (await site.run(command)).exit_code == 0
        assert not alive(int((site.sandbox() / "a").read_text()))
        assert site.recorder.about("2.1", "ended") is None  # somebody else's processes are left alone
        site.engine.kill("2.1", 0.0)
        await site.recorder.final("2.1")

    local.play(scenario)


def test_a_task_the_server_does_not_know_is_killed(real: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("echo $$ >pid; exec sleep 60"))
        pid = int(await until(lambda: (site.sandbox() / "pid").exists() and (site.sandbox() / "pid").read_text()))
        await site.restart()
        await until(lambda: not alive(pid))
        assert site.recorder.news == []

    real.play(scenario)


def test_a_known_task_with_a_recorded_kill_is_killed(real: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("sleep 60"))
        await site.recorder.started("1.1")
        recorder = await site.restart("1.1", kill=True)
        assert (await recorder.final("1.1")).signal == signal.SIGTERM

    real.play(scenario)


def test_offers_leave_out_what_adopted_tasks_hold(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("sleep 60"))
        await site.recorder.started("1.1")
        await site.engine.stop()
        known = KnownTask(
            id="1.1", agent="a", resources=Resources(cpus=1.0, mem=64), assignment=Assignment(gpus=("GPU-a",))
        )
        recorder = await site.start([known])
        assert recorder.about("1.1", "started")  # adoption comes before the first offer
        offer = await recorder.offer()
        assert offer.room[:2] == (3000, 4096 - 64)
        chosen = site.engine.assign(offer, Resources(gpus=1), Assignment())
        assert chosen is not None and chosen.gpus == ("GPU-b",)
        site.engine.kill("1.1", 0.0)
        await recorder.final("1.1")

    local.play(scenario)


def test_an_overdrawn_offer_starts_nothing(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(
            *(site.task("sleep 0.05", f"{number}.1", resources=Resources(cpus=2.0)) for number in (1, 2, 3))
        )
        kinds = [(await site.recorder.final(f"{number}.1")).kind for number in (1, 2, 3)]
        assert kinds == ["ended", "ended", "not_started"]
        assert not site.sandbox("3.1").exists()

    local.play(scenario)


def test_gpus_are_handed_out_by_uuid(local: Site) -> None:
    async def scenario(site: Site) -> None:
        need = Resources(cpus=1.0, gpus=2)
        offer = await site.recorder.offer()
        chosen = site.engine.assign(offer, need, Assignment())
        assert chosen is not None
        await site.run('echo "[$CUDA_VISIBLE_DEVICES]"', resources=need, assignment=chosen)
        assert await output(site) == "[GPU-a,GPU-b]\n"
        await site.run('echo "[$CUDA_VISIBLE_DEVICES]"', "2.1", environment={"CUDA_VISIBLE_DEVICES": "0"})
        assert await output(site, "2.1") == "[]\n"
        assert site.engine.assign(offer, Resources(gpus=3), Assignment()) is None
        assert site.engine.assign(offer, Resources(gpus=1), Assignment(gpus=("GPU-a", "GPU-b"))) is None

    local.play(scenario)


def test_ports_are_really_free(local: Site) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        first = site.engine.assign(offer, Resources(ports=1), Assignment())
        assert first is not None
        with socket.socket() as other:
            other.bind(("127.0.0.1", first.ports[0] + 1))
            other.listen()
            second = site.engine.assign(offer, Resources(ports=3), first)
        assert second is not None
        assert not {first.ports[0], first.ports[0] + 1} & set(second.ports)

    local.play(scenario)


def test_files_can_be_listed_and_read(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("mkdir d; printf 0123456789 >d/f; chmod 640 d/f; ln -s /etc/passwd link; mkfifo pipe")
        entries = {entry.path: entry for entry in await site.engine.list_files("1.1", "")}
        assert list(entries) == ["d", "link", "pipe", "stderr", "stdout"]
        kinds = {path: entry.type for path, entry in entries.items()}
        assert kinds == {"d": "directory", "link": "link", "pipe": "other", "stderr": "file", "stdout": "file"}
        [entry] = await site.engine.list_files("1.1", "d")
        assert (entry.path, entry.size, entry.mode) == ("d/f", 10, "-rw-r-----")
        assert await site.engine.list_files("1.1", "d/f") == [entry]
        reader = await site.engine.open_file("1.1", "./d//f")
        assert reader.size == 10
        assert await reader.read(3, 4) == b"3456"
        assert await reader.read(8, 100) == b"89"
        assert await reader.read(10, 100) == await reader.read(99, 100_000) == b""
        with (site.sandbox() / "d/f").open("a") as file:
            file.write("more")
        assert await reader.refresh() == 14 == reader.size
        reader.close()
        reader.close()

    local.play(scenario)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc/passwd", "absolute"),
        ("../2.1/stdout", "leaves"),
        ("d/../../x", "leaves"),
        ("link", "symbolic link"),
        ("linked/passwd", "symbolic link"),
        ("pipe", "not a plain file"),
        ("socket", "not a plain file"),
        ("d", "not a plain file"),
        ("stdout/x", "not a directory"),
        ("", "directory"),
        ("a\0b", "zero bytes"),
    ],
)
def test_paths_that_leave_the_sandbox_are_refused(local: Site, path: str, words: str) -> None:
    from retz.engine.base import FileRefused

    async def scenario(site: Site) -> None:
        await site.run("mkdir d; ln -s /etc/passwd link; ln -s /etc linked; mkfifo pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(site.sandbox())  # a socket's path has to be short
            try:
                listener.bind("socket")
            finally:
                os.chdir(here)
        with pytest.raises(FileRefused, match=words):
            await site.engine.open_file("1.1", path)
        if path.startswith(("/", "..", "linked")):
            with pytest.raises(FileRefused, match=words):
                await site.engine.list_files("1.1", path)

    local.play(scenario)


def test_missing_files_are_not_found(real: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("true")
        for path in ("x", "x/y"):
            with pytest.raises(FileNotFoundError, match="x"):
                await site.engine.open_file("1.1", path, site.agent)
            with pytest.raises(FileNotFoundError, match="x"):
                await site.engine.list_files("1.1", path, site.agent)

    real.play(scenario)


def test_collected_sandboxes_go_and_others_stay(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("mkdir -p a/b; touch a/b/c; chmod 500 a/b", "1.1")
        await site.run("true", "2.1")
        site.engine.collect(["1.1"])
        await until(lambda: not site.sandbox("1.1").exists())
        assert await output(site, "2.1") == ""
        site.engine.collect(["2.1"])
        await until(lambda: not site.sandbox("2.1").parent.exists())
        assert (await site.run("true", "3.1")).exit_code == 0

    local.play(scenario)


def test_usage_counts_short_jobs_and_whole_trees(local: Site) -> None:
    async def scenario(site: Site) -> None:
        burn = (
            "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.2: pass\nx = bytearray(60 << 20)"
        )
        end = await site.run(f"python3 -I -c '{burn}' & wait")
        assert end.usage is not None
        assert 0.2 <= end.usage.cpu_s < 5
        assert 60 <= end.usage.max_rss_mb < 500

    local.play(scenario)


def test_usage_of_a_running_task(local: Site) -> None:
    async def scenario(site: Site) -> None:
        hold = 'import time; x = bytearray(50 << 20); open("up", "w"); time.sleep(60)'
        await site.launch(site.task(f"python3 -I -c '{hold}'"))
        await until((site.sandbox() / "up").exists)
        usage = (await site.engine.usage(["1.1", "9.1"]))["1.1"]
        assert usage.max_rss_mb >= 50
        site.engine.kill("1.1", 0.0)
        await site.recorder.final("1.1")

    local.play(scenario)


def test_over_the_memory_limit_is_oom(local: Site) -> None:
    async def scenario(site: Site) -> None:
        grow = 'x = []\nwhile len(x) < 40: x.append(bytearray(10 << 20)); __import__("time").sleep(0.03)'
        end = await site.run(f"python3 -I -c '{grow}' & wait", mem_limit_mb=100)
        assert (end.kind, end.reason) == ("ended", "oom")
        assert "of the 100M it may use" in (end.message or "")
        assert end.usage is not None and end.usage.max_rss_mb > 100

    local.play(scenario)


def test_memory_shared_by_forked_workers_counts_once(local: Site) -> None:
    async def scenario(site: Site) -> None:
        code = """
import os, time
x = bytearray(60 << 20)
for _ in range(4):
    if not os.fork():
        time.sleep(0.8)
        os._exit(0)
for _ in range(4):
    os.wait()
"""
        end = await site.run(("python3", "-I", "-c", code), mem_limit_mb=200)
        assert (end.exit_code, end.reason) == (0, None), end.message

    local.play(scenario)


def test_over_the_time_limit_is_timeout(local: Site) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run("sleep 60", timeout_s=0.2)
        assert (end.reason, end.signal) == ("timeout", signal.SIGTERM)
        assert "0.2s" in (end.message or "")
        end = await site.run("trap '' TERM; while :; do sleep 0.05; done", "2.1", timeout_s=1.0, kill_grace_s=0.1)
        assert (end.reason, end.signal) == ("timeout", signal.SIGKILL)

    local.play(scenario)
