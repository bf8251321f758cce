"""The local engine when server, launcher or both die: true results, nothing twice, nothing left running."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retz.engine.base import EngineError, KnownTask
from retz.engine.local import link, processes, records, system, takeover
from retz.engine.local.engine import LocalEngine
from retz.model.agent import Offer
from retz.model.resources import Resources

from .engine_contract.site import ONE, TOTAL, Recorder, Site, alive, drop, end, until


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    place = Site("local", tmp_path / "engine")
    yield place
    place.clean()


def known(*tasks: str) -> list[KnownTask]:
    return [KnownTask(id=task, agent="a", resources=ONE) for task in tasks]


async def pid_in(path: Path) -> int:
    return int(await until(lambda: path.exists() and path.read_text().strip()))


def test_jobs_go_on_without_a_server_and_keep_their_true_results(local: Site) -> None:
    async def scenario(site: Site) -> None:
        grow = "x = []\nwhile len(x) < 40: x.append(bytearray(10 << 20)); __import__('time').sleep(0.02)"
        for task in (
            site.task("while [ ! -e ../go ]; do sleep 0.01; done; exit 7", "1.1"),
            site.task("sleep 60", "2.1", timeout_s=0.3),
            site.task(("python3", "-I", "-c", grow), "3.1", mem_limit_mb=100),
            site.task("while [ ! -e ../end ]; do sleep 0.01; done", "4.1"),
        ):
            await site.launch(task)
        started = await site.recorder.started("4.1")
        drop(site.engine)
        shard = site.sandbox().parent
        (shard / "go").touch()
        await until(lambda: records_of(site.directory) == {"1.1", "2.1", "3.1"})
        recorder = await site.start(known("1.1", "2.1", "3.1", "4.1"))
        assert (await recorder.final("1.1")).exit_code == 7
        assert (await recorder.final("2.1")).reason == "timeout"
        assert (await recorder.final("3.1")).reason == "oom"
        assert (await recorder.started("4.1")).at == started.at
        (shard / "end").touch()
        assert (await recorder.final("4.1")).exit_code == 0

    local.play(scenario)


def records_of(directory: Path) -> set[str]:
    """The tasks whose ends are in the launcher's file."""
    return {record[3] for record in records.read(str(directory / records.NAME)).ended.values()}


def test_a_dead_launchers_jobs_are_ended_and_lost(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(
            site.task(
                "echo $$ >pid; (setsid setsid sleep 61 &); (env -i setsid sh -c 'echo $$ >hidden; exec sleep 62' &); "
                "exec sleep 60"
            ),
            site.task("trap '' TERM; echo $$ >pid; while :; do sleep 1; done", "2.1"),
        )
        pids = [await pid_in(site.sandbox(task) / "pid") for task in ("1.1", "2.1")]
        hidden = await pid_in(site.sandbox() / "hidden")
        await site.recorder.started("1.1")
        first = site.launcher_pid()
        end(first, signal.SIGKILL)
        for task in ("1.1", "2.1"):
            truth = await site.recorder.final(task)
            assert (truth.kind, truth.exit_code) == ("lost", None)
        assert not [pid for pid in pids if alive(pid)]
        assert site.strays() == []
        if records.read(str(site.directory / records.NAME)).cgroup is not None:
            assert not alive(hidden)
        else:  # without a control group nothing tells that it was ours; see cgroup.py
            end(hidden, signal.SIGKILL)
        assert site.launcher_pid() != first
        assert site.recorder.failures == []
        offer = await site.recorder.until(lambda: next((o for o in site.recorder.standing.values()), None))
        assert offer.room == TOTAL.vector
        assert (await site.run("true", "3.1")).exit_code == 0

    local.play(scenario)


def test_a_full_disk_does_not_end_the_launcher_and_with_it_everybodys_jobs(local: Site) -> None:
    async def scenario(site: Site) -> None:
        first = site.launcher_pid()
        (site.directory / f"{records.NAME}.new").mkdir()  # its records cannot be written, nor can it complain
        truth = await site.run("exit 3")
        assert (truth.kind, truth.exit_code) == ("ended", 3) and truth.seq is not None
        site.engine.acknowledge([truth.seq])  # with nothing left to remember, the file would be written anew
        await asyncio.sleep(0)
        await site.restart(graceful=False)
        assert (await site.run("exit 4", "2.1")).exit_code == 4
        assert site.launcher_pid() == first and alive(first)
        (site.directory / f"{records.NAME}.new").rmdir()

    local.directory.mkdir(exist_ok=True)
    (local.directory / system.LOG).symlink_to("/dev/full")
    local.play(scenario)


def test_server_and_launcher_both_dead(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("echo $$ >pid; exec sleep 60"))
        pid = await pid_in(site.sandbox() / "pid")
        drop(site.engine)
        end(site.launcher_pid(), signal.SIGKILL)
        recorder = await site.start(known("1.1", "2.1"))
        assert (await recorder.final("1.1")).kind == "lost"
        assert (await recorder.final("2.1")).kind == "not_started"
        assert not alive(pid)

    local.play(scenario)


def test_a_claimed_attempt_never_runs(local: Site) -> None:
    """What the engine declared not started stays so, even if the launcher gets it after all."""

    async def scenario(site: Site) -> None:
        recorder = await site.restart("1.1")
        assert (await recorder.final("1.1")).kind == "not_started"
        recorder.news.clear()
        truth = await site.run("touch ran", "1.1")
        assert truth.kind == "lost"
        assert not (site.sandbox() / "ran").exists()

    local.play(scenario)


def test_a_launcher_told_to_stop_loses_its_jobs_and_leaves_nothing(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("echo $$ >pid; sleep 60"))
        pid = await pid_in(site.sandbox() / "pid")
        first = site.launcher_pid()
        os.kill(first, signal.SIGTERM)
        assert (await site.recorder.final("1.1")).kind == "lost"
        assert not alive(pid)
        await until(lambda: not alive(first))
        await until(lambda: site.launcher_pid() != first)
        assert (await site.run("true", "2.1")).exit_code == 0

    local.play(scenario)


def test_one_launcher_per_directory(local: Site) -> None:
    async def scenario(site: Site) -> None:
        pid = site.launcher_pid()
        other, recorder = LocalEngine(site.directory), Recorder()
        drop(site.engine)
        await other.start(recorder, [])
        assert site.launcher_pid() == pid
        await other.stop()

    local.play(scenario)


def test_an_idle_launcher_leaves_when_its_server_stops(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("true")
        pid = site.launcher_pid()
        await site.engine.stop()
        await until(lambda: not alive(pid))
        assert not (site.directory / system.SOCKET).exists()
        recorder = await site.start(known("1.1"))
        assert (await recorder.final("1.1")).exit_code == 0  # nobody had acknowledged it

    local.options["linger_s"] = 3600.0
    local.play(scenario)


def test_an_idle_launcher_without_a_server_exits_after_a_while(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("true")
        pid = site.launcher_pid()
        drop(site.engine)
        await until(lambda: not alive(pid))

    local.options["linger_s"] = 0.1
    local.play(scenario)


def test_an_idle_launcher_sleeps(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.run("true")
        await until(lambda: sleeps(site.launcher_pid()))
        before = switches(site.launcher_pid())
        await asyncio.sleep(0.4)
        assert switches(site.launcher_pid()) == before

    local.play(scenario)


def switches(pid: int) -> list[str]:
    status = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return [line for line in status if "ctxt_switches" in line]


def sleeps(pid: int) -> bool:
    stat = processes.read_stat(pid)
    return stat is not None and stat[5] == b"S"


def test_everything_is_private(local: Site) -> None:
    async def scenario(site: Site) -> None:
        secret = "hunter2-hunter2"
        await site.launch(site.task("echo $$ >pid; sleep 60", environment={"MY_TOKEN": secret}))
        await pid_in(site.sandbox() / "pid")
        # On a server of root's other users may pass, to sandboxes of their own.
        assert site.directory.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
        assert (site.directory / system.SOCKET).stat().st_mode & 0o777 == 0o600
        for name in (system.LOG, "records", "launcher.lock"):
            assert (site.directory / name).stat().st_mode & 0o077 == 0
            assert secret not in (site.directory / name).read_text()
        command = (Path("/proc") / str(site.launcher_pid()) / "cmdline").read_bytes()
        assert secret.encode() not in command
        site.engine.kill("1.1", 0.0)
        await site.recorder.final("1.1")

    local.play(scenario)


def test_an_unusable_directory_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="owner and mode"):
        asyncio.run(LocalEngine(tmp_path / "file" / "engine").start(Recorder(), []))
    with pytest.raises(EngineError, match="declare them"):
        engine = LocalEngine(tmp_path / "engine", total=Resources(cpus=1.0, gpus=3), gpus=())
        asyncio.run(engine.start(Recorder(), []))


def test_a_launcher_that_cannot_be_had_is_shown_until_it_can(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/no/such/python")
            end(site.launcher_pid(), signal.SIGKILL)
            [text] = await site.recorder.until(lambda: site.recorder.failures[:1])
            assert "/no/such/python" in text
            assert site.engine.agents()[0].state == "unreachable"
            assert not site.recorder.standing
            assert await site.engine.usage(["1.1"]) == {}
            offer = Offer(id="void", agent="a", room=TOTAL.vector)
            site.engine.launch(offer, [site.task("touch ran")])
            assert site.recorder.recoveries == 0
        await site.recorder.until(lambda: site.recorder.recoveries)
        assert (await site.recorder.final("1.1")).kind == "not_started"
        assert site.engine.agents()[0].state == "active"
        assert (await site.run("true", "2.1")).exit_code == 0

    local.play(scenario)


def test_a_launcher_that_does_not_answer_is_named(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        pid = site.launcher_pid()
        os.kill(pid, signal.SIGSTOP)  # before it hears that its server leaves, and leaves too
        await site.engine.stop()
        monkeypatch.setattr(link, "_PATIENCE_S", 0.1)
        try:
            with pytest.raises(EngineError, match="does not answer"):
                await site.make().start(Recorder(), [])
        finally:
            os.kill(pid, signal.SIGCONT)
        monkeypatch.setattr(link, "_PATIENCE_S", 20.0)
        await site.start()

    local.play(scenario)


def test_nonsense_on_the_socket_harms_no_job(local: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("while [ ! -e ../go ]; do sleep 0.01; done; exit 7"))
        await site.recorder.started("1.1")
        first = site.launcher_pid()
        for nonsense in (
            b"not json\n",
            b"[]\n",
            b'["start"]\n',
            b'["start","../x","true",{},null,null,null,1]\n',
            b"[[]]\n",
        ):
            with socket.socket(socket.AF_UNIX) as stranger:
                here = os.open(site.directory, os.O_RDONLY)
                stranger.connect(f"/proc/self/fd/{here}/{system.SOCKET}")
                os.close(here)
                stranger.sendall(nonsense)
                # It takes the place of the server, is thrown out, and the server comes back.
                stranger.settimeout(20)
                await asyncio.to_thread(drain, stranger)
        (site.sandbox().parent / "go").touch()
        assert (await site.recorder.final("1.1")).exit_code == 7
        assert site.launcher_pid() == first

    local.play(scenario)


def drain(connection: socket.socket) -> None:
    """Read until the other side closes."""
    try:
        while connection.recv(1 << 16):
            continue
    except ConnectionResetError:
        return


def test_a_launcher_that_is_slow_to_read_gets_everything(local: Site) -> None:
    async def scenario(site: Site) -> None:
        os.kill(site.launcher_pid(), signal.SIGSTOP)
        environment = {f"V{number}": "x" * 100_000 for number in range(8)}
        tasks = [site.task('[ "${#V7}" = 100000 ]', f"{number}.1", environment=environment) for number in (1, 2, 3, 4)]
        await site.launch(*tasks)
        await asyncio.sleep(0)
        os.kill(site.launcher_pid(), signal.SIGCONT)
        assert [(await site.recorder.final(task.id)).exit_code for task in tasks] == [0, 0, 0, 0]

    local.play(scenario)


def test_after_a_restart_of_the_machine_what_ran_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stat = processes.read_stat(os.getpid())
    assert stat is not None
    header = records.encode(["h", "another boot", None])
    ours = records.encode(["s", "1.1", os.getpid(), stat[3], stat[3]])  # the pid came round to this very process
    done = records.encode(["e", 5, "ended", "2.1", 1.0, 0.5, 0, None, None, None, None])
    records.Writer(records.NAME, header, [ours, done])
    history = takeover.clean_up("local-nobody")
    assert not history.started
    [(_, _, kind, task, *_), (_, seq, lost, other, *rest)] = history.ended.values()
    assert (kind, task, lost, other) == ("ended", "2.1", "lost", "1.1")
    assert seq > 5 and "restarted" in rest[-2]


def test_a_very_long_path_works(tmp_path: Path) -> None:
    place = Site("local", tmp_path / ("d" * 100) / ("e" * 100))

    async def scenario(site: Site) -> None:
        assert (await site.run("true")).exit_code == 0

    place.play(scenario)
    place.clean()


def test_random_kills(local: Site) -> None:
    """Server, launcher or both killed at random: no result unknown or wrong, nothing started twice."""
    seed = random.SystemRandom().randrange(1 << 32)
    cycles = int(os.environ.get("RETZ_KILL_CYCLES", "30"))
    print(f"seed {seed}, {cycles} cycles")
    asyncio.run(Storm(local, random.Random(seed)).run(cycles))


class Storm:
    """A small server: keeps what it knows in memory as a real one does on disk, and is killed all the time."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        self.site, self.dice = site, dice
        self.open: dict[str, int] = {}  # launched, end unknown: the exit code it will have
        self.truths: dict[str, str] = {}
        self.made = 0
        self.launcher_killed = False

    async def run(self, cycles: int) -> None:
        self.site.directory.parent.mkdir(exist_ok=True)
        for _ in range(cycles):
            recorder = await self.site.start(known(*self.open))
            self.launcher_killed = False
            await self.launch_some(recorder)
            await self.until_random_moment(recorder)
            self.learn(recorder)
            self.strike()
        await self.settle()
        self.check_lines()

    async def launch_some(self, recorder: Recorder) -> None:
        offer = await asyncio.wait_for(recorder.offer(), 20)
        tasks = []
        for _ in range(min(offer.room[0] // 1000, self.dice.randrange(1, 5))):
            self.made += 1
            name, code = f"{self.made}.1", self.dice.randrange(3)
            wait = f"sleep {self.dice.choice(['0', '0.01', '0.05', '0.2'])}"
            line = f"echo {name} >>{self.site.directory.parent}/lines; {wait}; exit {code}"
            self.open[name] = code  # durable, then launched
            tasks.append(self.site.task(line, name))
        recorder.standing.clear()
        if tasks:
            self.site.engine.launch(offer, tasks)

    async def until_random_moment(self, recorder: Recorder) -> None:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(self.dice.random() * 0.02)  # any moment will do: that is the point
        if self.dice.random() < 0.2:
            await recorder.until(lambda: recorder.news)

    def learn(self, recorder: Recorder) -> None:
        """Record a random part of the news, acknowledge a random part of that."""
        for update in recorder.news:
            if update.kind == "started" or self.dice.random() < 0.3:
                continue
            self.believe(update.task, update.kind, update.exit_code)
            if self.dice.random() < 0.7:
                self.site.engine.acknowledge([update.seq])

    def believe(self, task: str, kind: str, exit_code: int | None) -> None:
        code = self.open.pop(task, None)
        if code is not None:
            self.truths[task] = kind
            assert kind != "ended" or exit_code == code, f"{task} ended with {exit_code}, not {code}"

    def strike(self) -> None:
        if self.dice.random() < 0.5:
            end(self.site.launcher_pid(), signal.SIGKILL)
        drop(self.site.engine)

    async def settle(self) -> None:
        recorder = await self.site.start(known(*self.open))
        for task in list(self.open):
            update = await recorder.final(task)
            self.believe(task, update.kind, update.exit_code)
        assert not self.open
        await until(lambda: not self.site.strays())
        await self.site.engine.stop()

    def check_lines(self) -> None:
        lines = (self.site.directory.parent / "lines").read_text().split()
        assert len(lines) == len(set(lines)), "something was started twice"
        ended = {task for task, kind in self.truths.items() if kind == "ended"}
        unstarted = {task for task, kind in self.truths.items() if kind == "not_started"}
        assert ended <= set(lines)
        assert not unstarted & set(lines)
        assert ended, "the storm was too strong to show anything"


def test_a_machine_that_cannot_start_tasks_rests_and_loses_none(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        shard = site.sandbox("1.1").parent
        shard.parent.mkdir(exist_ok=True)
        shard.touch()  # no directory can be made in a file: as on a disk without inodes
        await site.launch(site.task("true", "1.1"))
        truth = await site.recorder.final("1.1")
        assert truth.kind == "not_started"
        assert "cannot make the sandbox" in str(truth.message)
        assert not site.recorder.standing
        (failure,) = site.recorder.failures
        assert "trying again" in failure
        shard.unlink()
        assert (await site.run("true", "1.2")).exit_code == 0
        assert site.recorder.recoveries == 1

    monkeypatch.setattr("retz.engine.local.engine.REST_S", 0.2)
    local.play(scenario)
