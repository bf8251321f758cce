"""Jobs of a root server run as Unix users of their own: theirs is what is theirs, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.engine.base import FileRefused, Update, Uri
from retz.engine.local import access, collector, processes, system

from .engine_contract.site import Site
from .test_local_fetch import Web, web

__all__ = ["web"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other users")
ONE, OTHER = "nobody", "daemon"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="retz-users-"))
    directory.chmod(0o755)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


@pytest.fixture
def local(place: Path) -> Iterator[Site]:
    site = Site("local", place / "data" / "local", user=ONE)
    (place / "data").mkdir(mode=0o711)
    yield site
    site.clean()


def output(site: Site, task: str = "1.1") -> str:
    return (site.sandbox(task) / "stdout").read_text()


def test_a_job_has_its_users_rights_and_surroundings(local: Site) -> None:
    user = pwd.getpwnam(ONE)

    async def scenario(site: Site) -> None:
        lines = (
            "id -u; id -g; id -G; pwd; umask; echo $HOME $USER $LOGNAME; touch $RETZ_SANDBOX/mine; echo x >/dev/stderr"
        )
        assert (await site.run(lines)).exit_code == 0
        box = site.sandbox()
        groups = " ".join(map(str, os.getgrouplist(ONE, user.pw_gid)))
        expected = [user.pw_uid, user.pw_gid, groups, box, "0022", f"{user.pw_dir} {ONE} {ONE}"]
        assert output(site).splitlines() == [str(line) for line in expected]
        assert box.stat().st_mode & 0o777 == 0o700
        for path in (box, box / "stdout", box / "stderr", box / "mine"):
            assert (path.stat().st_uid, path.stat().st_gid) == (user.pw_uid, user.pw_gid)
        came = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/zsh", "LANG": "C"}
        assert (
            await site.run("echo $HOME $USER $LOGNAME $SHELL $LANG", "2.1", user=OTHER, environment=came)
        ).exit_code == 0
        other = pwd.getpwnam(OTHER)
        assert output(site, "2.1") == f"{other.pw_dir} {OTHER} {OTHER} {other.pw_shell} C\n"

    local.play(scenario)


def test_nothing_of_root_is_left_in_a_job(local: Site) -> None:
    async def scenario(site: Site) -> None:
        truth = await site.run(
            "grep -E '^(Uid|Gid|Cap(Prm|Eff|Amb)|Sig(Blk|Ign)):' /proc/self/status; ls -l /proc/self/fd"
        )
        assert truth.exit_code == 0
        uid, gid = pwd.getpwnam(ONE).pw_uid, pwd.getpwnam(ONE).pw_gid
        *_, listing = lines = output(site).partition("total")
        fields = {line.split(":")[0]: set(line.split()[1:]) for line in lines[0].splitlines()}
        assert fields.pop("Uid") == {str(uid)} and fields.pop("Gid") == {str(gid)}
        assert set(fields) == {"CapPrm", "CapEff", "CapAmb", "SigBlk", "SigIgn"}
        real_time = ~((1 << 31) - 1)  # the C library's own are inherited as they are
        masks = {name: int(values.pop(), 16) & ~real_time for name, values in fields.items()}
        assert masks == dict.fromkeys(fields, 0)
        targets = {line.rpartition(" -> ")[2].rpartition("/")[2] for line in listing.splitlines() if " -> " in line}
        assert targets == {"null", "stdout", "stderr", "fd"}

    local.play(scenario)


async def refused(site: Site, number: int, command: str | tuple[str, ...] = "true", **more: Any) -> Update:
    truth = await site.run(command, f"{number}.1", **more)
    assert truth.kind == "ended" and truth.reason == "start" and truth.started is None
    return truth


def test_what_cannot_start_says_why(local: Site) -> None:
    async def scenario(site: Site) -> None:
        assert "no Unix user 'no-such-user'" in str((await refused(site, 1, user="no-such-user")).message)
        outside = site.directory.parent / "outside"
        files = (Uri("/etc/hostname", True),)
        assert "no Unix user" in str((await refused(site, 8, user="../../outside", files=files)).message)
        assert not outside.exists()
        assert "root's rights" in str((await refused(site, 2, user="root")).message)
        assert "/root: Permission denied" in str((await refused(site, 3, directory="/root")).message)
        assert (await refused(site, 4, ("no-such-program",))).exit_code == 127
        assert (await refused(site, 5, ("/etc/passwd",))).exit_code == 126
        (site.directory.parent).chmod(0o700)
        truth = await refused(site, 6)
        assert "cannot reach" in str(truth.message) and "chmod o+x" in str(truth.message)
        (site.directory.parent).chmod(0o711)
        assert (await site.run("exit 3", "7.1")).exit_code == 3
        assert site.recorder.failures == []

    local.play(scenario)


def test_root_only_when_it_is_named(place: Path) -> None:
    site = Site("local", place / "local", user="root")

    async def scenario(site: Site) -> None:
        assert (await site.run("id -u")).exit_code == 0
        assert output(site) == "0\n"
        assert (await site.run("id -un", "2.1", user=ONE)).exit_code == 0
        assert output(site, "2.1") == f"{ONE}\n"

    site.play(scenario)
    site.clean()


def test_files_are_fetched_with_the_users_rights(local: Site, place: Path) -> None:
    (place / "secret").write_text("root's")
    (place / "secret").chmod(0o600)
    (place / "public").write_text("everybody's")
    with tarfile.open(place / "a.tgz", "w:gz") as tar:
        tar.add(place / "public", "d/public")

    async def scenario(site: Site) -> None:
        for number, cache in enumerate((False, True), 1):
            files = (Uri(str(place / "secret"), cache),)
            truth = await site.run("cat secret", f"{number}.1", files=files)
            assert truth.reason == "fetch" and "Permission denied" in str(truth.message)
        both = (Uri(str(place / "public"), True), Uri(str(place / "a.tgz")))
        assert (await site.run("cat public d/public", "3.1", files=both)).exit_code == 0
        uid = pwd.getpwnam(ONE).pw_uid
        assert {path.stat().st_uid for path in site.sandbox("3.1").rglob("*")} == {uid}

    local.play(scenario)


def test_the_cache_of_one_user_is_closed_to_another(local: Site, place: Path) -> None:
    private = place / "private"
    private.write_text("mine")
    private.chmod(0o600)
    os.chown(private, pwd.getpwnam(ONE).pw_uid, -1)

    async def scenario(site: Site) -> None:
        files = (Uri(str(private), True),)
        assert (await site.run("cat private", files=files)).exit_code == 0
        truth = await site.run("cat private", "2.1", files=files, user=OTHER)
        assert truth.reason == "fetch" and "Permission denied" in str(truth.message)
        truth = await site.run(f"ls {site.directory}/cache/{pwd.getpwnam(ONE).pw_uid}", "3.1", user=OTHER)
        assert truth.exit_code != 0 and "Permission denied" in (site.sandbox("3.1") / "stderr").read_text()

    local.play(scenario)


def test_what_another_user_sees_of_a_job(local: Site) -> None:
    """Environment, descriptors, files and the launcher's own are closed; command lines are open, as everywhere."""

    async def scenario(site: Site) -> None:
        await site.launch(site.task("exec sleep 60", environment={"MY_TOKEN": "hunter2"}))
        await site.recorder.started("1.1")
        (pid,) = site.strays()
        base = f"/proc/{pid}"
        tries = (
            f"cat {base}/environ", f"ls {base}/fd", f"ls {base}/cwd/", f"cat {site.sandbox()}/stdout",
            f"ls {site.directory}", f"ls {site.sandbox().parent}", f"ls {site.sandbox()}", f"kill {pid}",
            *(f"cat {site.directory}/{name}" for name in ("records", "agent", system.LOCK, system.LOG)),
        )  # fmt: skip
        for number, attempt in enumerate(tries, 2):
            truth = await site.run(attempt, f"{number}.1", user=OTHER)
            assert truth.exit_code != 0, attempt
            assert output(site, f"{number}.1") == "", attempt
        connect = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        python = shutil.which("python3", path="/usr/bin:/bin")
        if python is not None:
            command = (python, "-I", "-c", connect, f"{site.directory}/{system.SOCKET}")
            truth = await site.run(command, "99.1", user=OTHER)
            assert "PermissionError" in (site.sandbox("99.1") / "stderr").read_text()
        site.engine.kill("1.1", 0.0)
        await site.recorder.final("1.1")

    local.play(scenario)


def test_the_server_serves_nothing_of_others(local: Site, place: Path) -> None:
    secret = place / "data" / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)

    async def scenario(site: Site) -> None:
        assert (
            await site.run(f"echo own >file; ln -s {secret} soft; ln -s / all; mkfifo pipe; ln file again")
        ).exit_code == 0
        box = site.sandbox()
        os.link(secret, box / "hard")  # where the kernel does not protect hard links, the job could do this itself
        for path in ("soft", "hard", "pipe", "all/etc/passwd", "../../../agent", "/etc/passwd"):
            with pytest.raises(FileRefused):
                await site.engine.open_file("1.1", path)
        for path in ("file", "again", "stdout"):
            reader = await site.engine.open_file("1.1", path)
            assert await reader.read(0, 100) == (b"" if path == "stdout" else b"own\n")
            reader.close()
        assert len(await site.engine.list_files("1.1", "")) == 8

    local.play(scenario)


@pytest.mark.anyio
async def test_removing_a_sandbox_touches_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it has links, and more directories in each other than a library can walk."""
    monkeypatch.setattr(collector, "REST", 0.0)
    box = place / "sandboxes/0/1.1"
    box.mkdir(parents=True)
    (place / "other").mkdir()
    (place / "other" / "file").touch(mode=0o600)
    (box / "link").symlink_to(place / "other")
    deep = os.open(box, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        deeper = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)
    (place / "sandboxes/0/2.1").mkdir()
    here = os.open(place, os.O_RDONLY)
    removing = collector.Collector(here)
    removing.add(["1.1", "2.1"])
    assert removing._task is not None
    await removing._task
    os.close(here)
    assert (place / "other" / "file").stat().st_mode & 0o777 == 0o600
    assert not (place / "sandboxes/0").exists()


def test_a_root_servers_data_is_closed_and_can_be_passed(place: Path) -> None:
    data = place / "data"
    (data / "local").mkdir(parents=True, mode=0o711)
    (data / "store").mkdir(mode=0o755)
    (data / "lock").touch(mode=0o644)
    (data / "link").symlink_to("/etc")
    before = Path("/etc").stat().st_mode
    access.close_data_directory(data)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (data, *data.iterdir()) if path.name != "link"}
    assert modes == {"data": 0o711, "local": 0o711, "store": 0o700, "lock": 0o600}
    assert Path("/etc").stat().st_mode == before


def test_sandboxes_made_before_are_opened_to_pass(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = place / "closed" / "local"
    shard = directory / "sandboxes" / "0"
    shard.mkdir(parents=True)
    for path in (shard, shard.parent, directory, directory.parent):
        path.chmod(0o700)
    fd = os.open(directory, os.O_RDONLY)
    access.settle_directories(directory, fd, ONE)
    os.close(fd)
    assert [path.stat().st_mode & 0o777 for path in (shard, shard.parent, directory)] == [0o711] * 3
    assert f"{directory.parent} is closed to others" in caplog.text


def test_nobody_looks_into_a_job_that_fetches(local: Site, web: Web) -> None:
    """It is the launcher's child still, with whatever the launcher knows, and has its user's rights already."""

    async def scenario(site: Site) -> None:
        await site.launch(site.task("true", files=(Uri(f"{web.uri}/slow"),)))
        await asyncio.to_thread(web.waiting.acquire)
        (pid,) = processes.children_of(processes.scan(processes.all_pids()))[site.launcher_pid()]
        for number, path in enumerate(("environ", "mem", "maps", "fd/", "cwd/"), 2):
            truth = await site.run(f"ls /proc/{pid}/{path} && head -c 1 /proc/{pid}/{path}", f"{number}.1")
            assert truth.exit_code != 0, path
            assert "Permission denied" in (site.sandbox(f"{number}.1") / "stderr").read_text()
        web.gate.set()
        assert (await site.recorder.final("1.1")).exit_code == 0

    local.play(scenario)
