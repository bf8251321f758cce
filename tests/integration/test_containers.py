"""Jobs in containers, on a real podman with an image made on the spot: what they see, how they end, what is left."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.client import ApiError, Client
from retz.engine.base import Update, Uri
from retz.engine.local import leftovers, processes, runtime
from retz.engine.local.engine import Containers
from retz.model.container import Container, Volume
from retz.model.resources import Resources
from tests.server_process import ServerProcess

from .engine_contract.site import Site, assignment, end, until

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/busy:1"
ONE = "nobody"
TOOLS = ("sh", "cat", "dd", "echo", "env", "grep", "id", "ls", "pwd", "sleep", "tail", "touch", "true", "wc")
MIB_64 = Resources(cpus=1.0, mem=64)

MISSING = next(
    (
        text
        for missing, text in (
            (shutil.which("podman") is None, "needs podman: apt-get install podman runc"),
            (not BUSYBOX.exists(), "needs a static busybox: apt-get install busybox-static"),
            (os.geteuid() != 0, "its storage is made by root"),
        )
        if missing
    ),
    None,
)


DOCKER = """#!/bin/sh
# Docker, as far as the engine calls it; its containers are plain processes.
case $1 in
--version) echo "Docker version 28.2.2, build e6534b4" ;;
run)
    printf '%s\\n' "$@" >>STATE/run
    while case $1 in -*|run) true ;; *) false ;; esac; do
        case $1 in --entrypoint=*) program=${1#*=} ;; esac
        shift
    done
    shift
    echo $$ >STATE/pid
    exec "$program" "$@" ;;
inspect) case $2 in *Pid*) cat STATE/pid 2>/dev/null ;; *) echo false ;; esac ;;
rm) rm -f STATE/pid ;;
kill) kill -s "${2#*=}" "$(cat STATE/pid)" ;;
image) case $4 in missing:*) echo "Error response from daemon: No such image: $4" >&2; exit 1 ;; esac ;;
pull) [ "$3" != missing:slow ] || exec sleep 1000
    echo "Error response from daemon: pull access denied for ${3%:*}" >&2; exit 1 ;;
esac
"""


class Podman:
    """A podman with a storage of its own. ``path`` is a program that calls it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "podman"
        places = f"--root {directory}/root --runroot {directory}/run --tmpdir {directory}/tmp"
        self.path.write_text(f'#!/bin/sh\nexec podman {places} --events-backend none "$@"\n')
        self.path.chmod(0o755)
        archive = directory / "image.tar"
        with tarfile.open(archive, "w") as tar:
            for name in ("bin", "tmp", "etc"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
                tar.addfile(entry)
            tar.add(BUSYBOX, "bin/busybox")
            for name in TOOLS:
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        self.call("import", "--quiet", str(archive), IMAGE)

    def call(self, *arguments: str) -> str:
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def containers(self) -> list[str]:
        return self.call("ps", "--all", "--format", "{{.Names}}").split()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="retz-containers-"))
    directory.chmod(0o755)
    yield directory
    subprocess.run(["umount", "-l", directory / "podman/root/overlay"], capture_output=True, check=False)
    subprocess.run(["rm", "-rf", directory], check=True)


@pytest.fixture(scope="module")
def podman(place: Path) -> Podman:
    """Podman, and an image for it."""
    if MISSING is not None:
        pytest.skip(MISSING)
    (place / "podman").mkdir()
    return Podman(place / "podman")


@pytest.fixture(scope="module")
def working(podman: Podman, place: Path) -> Path:
    """The runtime, if containers can be run on this machine at all."""
    try:
        runtime.profile(str(place), str(podman.path), (), runtime.client_environment())
    except runtime.NoRuntime as error:
        pytest.skip(f"no container can be run here: {error}")
    return podman.path


@pytest.fixture
def site(place: Path, working: Path, podman: Podman, request: pytest.FixtureRequest) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="data-", dir=place))
    directory.chmod(0o711)
    (directory / "local").mkdir()
    shutil.copy(place / "container.json", directory / "local")  # what works is known: no probe for each test
    (place / "shown").mkdir(exist_ok=True)
    containers = Containers(runtime=str(working), host_paths=(str(place / "shown"),))
    site = Site("local", directory / "local", user=ONE, containers=containers, sample_interval_s=0.1)
    yield site
    site.clean()
    assert podman.containers() == []


def inside(**more: Any) -> dict[str, Any]:
    return {"container": Container("docker", IMAGE, **more)}


def output(site: Site, task: str = "1.1", name: str = "stdout") -> str:
    return (site.sandbox(task) / name).read_text()


def test_a_container_sees_its_image_its_sandbox_and_its_user(site: Site, tmp_path: Path) -> None:
    (file := Path(tempfile.mkdtemp(dir=site.directory.parent)) / "input").write_text("fetched\n")
    file.parent.chmod(0o755)

    async def scenario(site: Site) -> None:
        lines = (
            "id -u; id -g; pwd; cat input; echo $A $RETZ_TASK; echo $GREETING >&2; touch new; ls /etc/passwd; exit 7"
        )
        more = {"environment": {"A": "b 'c'", "GREETING": "hello"}, "files": (Uri(str(file)),), **inside()}
        truth = await site.run(lines, resources=MIB_64, mem_limit_mb=64, **more)
        assert (truth.kind, truth.exit_code, truth.reason) == ("ended", 7, None)
        assert truth.started is not None and truth.at >= truth.started
        user = pwd.getpwnam(ONE)
        box = site.sandbox()
        expected = [str(user.pw_uid), str(user.pw_gid), str(box), "fetched", "b 'c' 1.1"]
        assert output(site).splitlines()[:5] == expected
        assert output(site, name="stderr").startswith("hello\n")
        for name in ("stdout", "new", "input"):
            assert (box / name).stat().st_uid == user.pw_uid
        assert [entry.path for entry in await site.engine.list_files("1.1", "new")] == ["new"]
        assert not (site.directory / "containers/1.1").exists()

    site.play(scenario)


async def refused(site: Site, number: int, command: str | tuple[str, ...] = "true", **more: Any) -> Update:
    truth = await site.run(command, f"{number}.1", **more)
    assert truth.kind == "ended" and truth.started is None
    return truth


def test_what_cannot_start_says_why(site: Site) -> None:
    async def scenario(site: Site) -> None:
        truth = await refused(site, 1, container=Container("docker", "none-such"))
        assert truth.reason == "image" and "cannot get image none-such: " in str(truth.message)
        truth = await refused(site, 2, ("no-such-program", "x"), **inside())
        assert (truth.reason, truth.exit_code) == ("start", 127) and "no-such-program" in str(truth.message)
        truth = await refused(site, 3, directory="/no/such/directory", **inside())
        assert truth.reason == "start" and "/no/such/directory" in str(truth.message)
        truth = await refused(site, 4, environment={"LINES": "a\nb"}, **inside())
        assert truth.reason == "start" and "'LINES' has a line break" in str(truth.message)
        truth = await refused(site, 5, container=Container("docker", "dir:/etc"))
        assert truth.reason == "image" and "not the name of an image" in str(truth.message)
        truth = await refused(site, 6, **inside(), files=(Uri("/no/such/file"),))
        assert truth.reason == "fetch" and "/no/such/file" in str(truth.message)
        truth = await site.run("no-such-program", "7.1", **inside())
        assert (truth.reason, truth.exit_code) == (None, 127)  # the shell in it says so: the job began

    site.play(scenario)


def test_memory_and_time_are_limited_and_used(site: Site) -> None:
    async def scenario(site: Site) -> None:
        eater = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null"
        truth = await site.run(eater, resources=MIB_64, mem_limit_mb=64, **inside())
        assert (truth.kind, truth.reason) == ("ended", "oom"), truth
        truth = await site.run("sleep 100", "2.1", timeout_s=0.3, **inside())
        assert truth.reason == "timeout" and truth.started is not None and truth.at - truth.started < 50
        spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
        truth = await site.run(spin, "3.1", resources=MIB_64, mem_limit_mb=64, **inside())
        assert truth.exit_code == 0 and truth.usage is not None and truth.usage.cpu_s > 0.05

    site.play(scenario)


def test_a_kill_asks_first(site: Site) -> None:
    async def scenario(site: Site) -> None:
        trap = "trap 'echo asked; exit 3' TERM; echo ready; while true; do sleep 0.1; done"
        await site.launch(site.task(trap, **inside()), site.task("trap '' TERM; sleep 100", "2.1", **inside()))
        await site.recorder.started("1.1")
        await site.recorder.started("2.1")
        await until(lambda: "ready" in output(site))
        site.engine.kill("1.1", 30.0)
        site.engine.kill("2.1", 0.0)
        truth = await site.recorder.final("1.1")
        assert (truth.reason, truth.exit_code) == ("user", 3) and output(site) == "ready\nasked\n"
        truth = await site.recorder.final("2.1")
        assert truth.reason == "user" and truth.exit_code == 137

    site.play(scenario)


def contained(site: Site, command: bytes) -> list[int]:
    """Processes of this site's containers that run such a command."""
    found = []
    for pid in site.strays():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if line.replace(b"\0", b" ").startswith(command):
            found.append(pid)
    return found


def keepers(site: Site) -> list[int]:
    """Those between the launcher and the runtime."""
    table = processes.scan(processes.all_pids())
    below = processes.children_of(table)[site.launcher_pid()]
    return [pid for pid in below if table[pid][1] == pid and "python" in processes.name_of(pid)]


def test_a_new_server_finds_it_and_a_dead_launcher_leaves_nothing(site: Site, podman: Podman) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("echo up; exec sleep 1000", **inside()))
        await site.recorder.started("1.1")
        await site.restart("1.1", graceful=False)
        await site.recorder.started("1.1")
        assert await until(lambda: contained(site, b"sleep 1000"))
        end(site.launcher_pid(), signal.SIGKILL)
        truth = await site.recorder.final("1.1")
        assert truth.kind == "lost"
        await until(lambda: not podman.containers())
        assert contained(site, b"sleep 1000") == []

    site.play(scenario)


def test_what_is_gone_already_keeps_nothing_else_from_being_removed(site: Site, podman: Podman) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("echo up; exec sleep 1000", **inside()))
        await site.recorder.started("1.1")
        kept = site.directory / leftovers.ROOT
        (kept / "0.1").mkdir()
        note = (kept / "1.1/remove").read_text()
        (kept / "0.1/remove").write_text(note.replace('1.1"]', '0.1"]'))
        assert (kept / "0.1/remove").read_text() != note
        end(site.launcher_pid(), signal.SIGKILL)
        assert (await site.recorder.final("1.1")).kind == "lost"
        assert podman.containers() == [] and list(kept.iterdir()) == []

    site.play(scenario)


def test_a_keeper_that_is_killed_takes_its_container_along(site: Site, podman: Podman) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("exec sleep 1000", **inside()))
        await site.recorder.started("1.1")
        (keeper,) = keepers(site)
        end(keeper, signal.SIGKILL)
        truth = await site.recorder.final("1.1")
        assert (truth.kind, truth.signal) == ("ended", signal.SIGKILL)
        await until(lambda: not podman.containers())
        assert contained(site, b"sleep 1000") == []

    site.play(scenario)


def test_a_result_that_nobody_saw_is_lost_and_not_made_up(site: Site, podman: Podman) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task("exec sleep 1000", **inside()))
        await site.recorder.started("1.1")
        (keeper,) = keepers(site)
        (client,) = processes.children_of(processes.scan(processes.all_pids()))[keeper]
        end(client, signal.SIGKILL)
        truth = await site.recorder.final("1.1")
        assert (truth.kind, truth.exit_code, truth.signal) == ("lost", None, None)
        assert "how it ended is not known" in str(truth.message)
        assert podman.containers() == [] and contained(site, b"sleep 1000") == []

    site.play(scenario)


def test_what_may_be_mounted(site: Site, place: Path) -> None:
    shown = place / "shown"
    (shown / "open").mkdir(exist_ok=True)
    (shown / "open/data").write_text("data\n")
    (shown / "closed/below").mkdir(parents=True, exist_ok=True)
    (shown / "closed").chmod(0o700)
    (shown / "out").symlink_to("/etc")

    async def scenario(site: Site) -> None:
        engine = site.engine

        async def no(driver: str, name: str, path: str = "/x", **more: Any) -> str:
            return str(await engine.refusal(Container("docker", IMAGE, (Volume(driver, name, path, **more),))))

        assert "not among the paths" in await no("host", "/etc")
        assert "not among the paths" in await no("host", f"{shown}/out")
        assert "not among the paths" in await no("host", f"{shown}/../shown-not")
        assert "have no options" in await no("local", "a", options={"device": "/etc", "o": "bind", "type": "none"})
        assert "not allowed here" in await no("nfs", "a")
        assert "letters, digits" in await no("local", "/etc")
        assert "absolute path in the container" in await no("local", "a", "/")
        good = Container("docker", IMAGE, (Volume("host", f"{shown}/open", "/x"), Volume("local", "a", "/v", "RW")))
        assert await engine.refusal(good) is None
        truth = await site.run("cat /x/data; touch /v/mine && touch /x/new", container=good)
        assert truth.exit_code == 1 and output(site) == "data\n" and not (shown / "open/new").exists()
        assert "Read-only" in output(site, name="stderr")
        bad = Container("docker", IMAGE, (Volume("host", f"{shown}/closed/below", "/x"),))
        assert "Permission denied" in str((await refused(site, 2, container=bad)).message)
        bad = Container("docker", IMAGE, (Volume("host", f"{shown}/out", "/x"),))
        assert "not among the paths" in str((await refused(site, 3, container=bad)).message)
        assert (await site.run("ls -ln /v", "4.1", user="daemon", container=good)).exit_code == 0
        assert output(site, "4.1").splitlines() == ["total 0"]  # another user's volume of that name is another one

    site.play(scenario)


def test_root_in_a_container_leaves_what_can_be_read_and_no_way_to_be_root(site: Site) -> None:
    async def scenario(site: Site) -> None:
        lines = (
            "id -u; echo text > file; busybox cp /bin/busybox tool; busybox chown 12:12 file tool; "
            "busybox cp /bin/busybox own; busybox chmod 6755 tool own; busybox ln -s own link"
        )
        truth = await site.run(lines, user="root", **inside())
        assert truth.exit_code == 0, output(site, name="stderr")
        assert output(site) == "0\n"
        reader = await site.engine.open_file("1.1", "file")
        assert await reader.read(0, 10) == b"text\n"
        reader.close()
        assert {name: (site.sandbox() / name).stat().st_mode & 0o7777 for name in ("tool", "own")} == {
            "tool": 0o755, "own": 0o755
        }  # fmt: skip
        truth = await site.run("grep NoNewPrivs /proc/self/status", "2.1", **inside())
        assert output(site, "2.1").split() == ["NoNewPrivs:", "1"]

    site.play(scenario)


def test_a_machine_without_a_runtime_says_so(tmp_path: Path) -> None:
    site = Site("local", tmp_path / "local", containers=Containers(runtime=str(tmp_path / "none")))

    async def scenario(site: Site) -> None:
        assert "container" not in site.engine.honours
        words = await site.engine.refusal(Container("docker", IMAGE))
        assert words is not None and "install podman or docker" in words

    site.play(scenario)
    site.clean()


def test_a_runtime_that_does_not_work_says_so_and_costs_no_job(tmp_path: Path) -> None:
    broken = tmp_path / "docker"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && echo Docker version 1 && exit\necho no daemon >&2; exit 1\n")
    broken.chmod(0o755)
    site = Site("local", tmp_path / "local", containers=Containers(runtime=str(broken)))

    async def scenario(site: Site) -> None:
        words = await site.engine.refusal(Container("docker", IMAGE))
        assert words is not None and "no daemon" in words
        truth = await site.run("true", **inside())
        assert truth.kind == "not_started" and "no daemon" in str(truth.message)
        assert site.recorder.failures

    site.play(scenario)
    site.clean()


def test_a_server_runs_them_for_whoever_loads_an_application(place: Path, working: Path) -> None:
    settings = {"RETZ_CONTAINER_RUNTIME": str(working), "RETZ_CONTAINER_OPTIONS": "--env WHERE='in it'"}
    server = ServerProcess(place / "home", settings=settings)
    server.environment["RETZ_LOCAL_USER"] = ONE
    try:
        server.start()
        key, secret = server.credentials()
        with Client(uri=server.uri, key=key, secret=secret) as client:
            client.put_application("busy", container={"type": "docker", "image": IMAGE})
            job = client.run("echo $WHERE; id -u; exit 5", application="busy", mem="64m")
            assert (job.state, job.reason, job.exit_code) == ("FAILED", "exit", 5)
            assert client.read_file(job.id, "stdout").decode() == f"in it\n{pwd.getpwnam(ONE).pw_uid}\n"
            with pytest.raises(ApiError, match="not the name of an image"):
                client.put_application("bad", container={"type": "docker", "image": "--privileged"})
            with pytest.raises(ApiError, match="host-paths"):
                volumes = [{"driver": "host", "name": "/etc", "container_path": "/x"}]
                client.put_application("bad", container={"type": "docker", "image": IMAGE, "volumes": volumes})
        log = (server.home / "server.log").read_text()
        assert "containers run with podman version" in log
    finally:
        server.destroy()


def pulling(site: Site) -> list[int]:
    return [pid for pid in site.strays() if processes.name_of(pid) == "sleep"]


def test_docker_is_told_the_same(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.replace("STATE", str(tmp_path)))
    docker.chmod(0o755)
    containers = Containers(runtime=str(docker), network="bridge", options=("--shm-size=1g",))
    site = Site("local", tmp_path / "local", containers=containers)

    async def scenario(site: Site) -> None:
        given = assignment(ports=(31001,), gpus=("GPU-a", "GPU-b"))
        resources = Resources(cpus=2.0, mem=64, gpus=2, ports=1)
        more = {"resources": resources, "assignment": given, "mem_limit_mb": 64, "directory": "/work", **inside()}
        truth = await site.run("echo said; exit 4", **more)
        assert (truth.kind, truth.exit_code) == ("ended", 4) and output(site) == "said\n"
        told = (tmp_path / "run").read_text().split("\nrun\n")[-1].splitlines()
        for option in (
            '--gpus="device=GPU-a,GPU-b"',
            f"--user={os.geteuid()}:{os.getegid()}",
            "--network=bridge",
            "--publish=31001:31001",
            "--memory=64m",
            f"--cpus={min(2, os.cpu_count() or 1)}",
            "--workdir=/work",
            f"--volume={site.sandbox()}:{site.sandbox()}",
            "--pull=never",
            "--security-opt=no-new-privileges",
            "--shm-size=1g",
        ):
            assert option in told
        assert told[-3:] == [IMAGE, "-c", "echo said; exit 4"] and "--entrypoint=/bin/sh" in told
        truth = await site.run("true", "2.1", container=Container("docker", "missing:1"))
        assert truth.reason == "image" and str(truth.message).endswith("pull access denied for missing")
        await site.launch(site.task("true", "4.1", container=Container("docker", "missing:slow")))
        await until(lambda: pulling(site))
        site.engine.kill("4.1", 30.0)
        truth = await site.recorder.final("4.1")
        assert truth.reason == "user" and truth.started is None and not pulling(site)
        await site.launch(site.task(("sleep", "1000"), "3.1", **inside()))
        await site.recorder.started("3.1")
        assert (await site.engine.usage(["3.1"]))["3.1"].max_rss_mb > 0
        site.engine.kill("3.1", 30.0)
        assert (await site.recorder.final("3.1")).reason == "user"

    site.play(scenario)
    site.clean()
