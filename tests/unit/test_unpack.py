"""Archives: what is good arrives whole, and nothing of the rest leaves the sandbox."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retz.engine.local import unpack
from retz.engine.local.unpack import FetchError

MOST = 64 << 20
PLAIN = b"plain data\n"


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    inside = tmp_path / "outside" / "sandbox"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    return inside


def member(name: str, data: bytes = PLAIN, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), 1_700_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=kind, linkname=target)


def packed(*members: tuple[tarfile.TarInfo, bytes], compression: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def take(data: bytes, name: str = "a.tar", most: int = MOST) -> None:
    """Unpack from a file outside the sandbox."""
    path = Path.cwd().parent / f"packed-{name}"
    path.write_bytes(data)
    with path.open("rb") as file:
        unpack.unpack(file, name, most)
    path.unlink()


def below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize(("ending", "compression"), [("tar", ""), ("tgz", "gz"), ("tar.bz2", "bz2"), ("TAR.XZ", "xz")])
def test_a_tar_is_unpacked_however_it_is_packed(sandbox: Path, ending: str, compression: str) -> None:
    take(
        packed(
            member("./top"),
            member("d", b"", type=tarfile.DIRTYPE, mode=0o500),
            member("d/tool", b"#!/bin/sh\n", mode=0o4777),
            link("d/up", "../top"),
            link("d/here", "."),
            link("again", "d/tool", tarfile.LNKTYPE),
            member("deep/er/file", b"first"),
            member("deep/er/file", b"second"),
            compression=compression,
        ),
        f"a.{ending}",
    )
    assert below(sandbox) == {"top", "d", "d/tool", "d/up", "d/here", "again", "deep", "deep/er", "deep/er/file"}
    assert (sandbox / "top").read_bytes() == (sandbox / "d/up").read_bytes() == PLAIN
    assert (sandbox / "top").stat().st_mtime == 1_700_000_000
    assert stat.S_IMODE((sandbox / "d/tool").stat().st_mode) == 0o755  # no setuid, and for nobody else to write
    assert stat.S_IMODE((sandbox / "d").stat().st_mode) == 0o700
    assert (sandbox / "again").samefile(sandbox / "d/tool")
    assert (sandbox / "deep/er/file").read_bytes() == b"second"


def test_a_zip_and_a_gz_are_unpacked(sandbox: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed_zip:
        packed_zip.mkdir("d") if hasattr(packed_zip, "mkdir") else packed_zip.writestr("d/", b"")
        packed_zip.writestr("d/file", PLAIN)
        info = zipfile.ZipInfo("d/up")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed_zip.writestr(info, "../top")
        info = zipfile.ZipInfo("tool")
        info.external_attr = (stat.S_IFREG | 0o4755) << 16
        packed_zip.writestr(info, "#!/bin/sh")
    take(file.getvalue(), "a.zip")
    take(gzip.compress(PLAIN), "top.gz")
    assert below(sandbox) == {"d", "d/file", "d/up", "tool", "top"}
    assert (sandbox / "d/file").read_bytes() == (sandbox / "d/up").read_bytes() == PLAIN
    assert stat.S_IMODE((sandbox / "tool").stat().st_mode) == 0o755


DEVICE = member("dev", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ([member("../evil")], "leads out"),
        ([member("d/../../evil")], "leads out"),
        ([member("/tmp/evil")], "leads out"),
        ([link("l", "/etc/passwd")], "leads out"),
        ([link("l", "..")], "leads out"),
        ([link("d/l", "../../evil")], "leads out"),
        ([link("d/l", "x/../../..")], "leads out"),
        ([link("root", "."), link("d/e/top", "../.."), link("d/e/out", "top/..")], "leads out"),
        ([link("l", ""), member("l/x")], "leads out"),
        ([link("d", "."), member("d/x")], "behind a link"),
        ([link("l", "../evil", tarfile.LNKTYPE)], "leads out"),
        ([link("l", "/etc/passwd", tarfile.LNKTYPE)], "leads out"),
        ([link("s", "gone"), link("l", "s", tarfile.LNKTYPE)], "not a file"),
        ([DEVICE], "a device or a pipe"),
        ([member("pipe", b"", type=tarfile.FIFOTYPE)], "a device or a pipe"),
        ([member("stdout")], "sandbox's own"),
        ([link("./stderr", "x")], "sandbox's own"),
        ([member("/".join("d" * 100))], "deep"),
    ],
)
def test_an_archive_that_reaches_out_is_refused(
    sandbox: Path, members: list[tuple[tarfile.TarInfo, bytes]], cause: str
) -> None:
    with pytest.raises(FetchError, match=cause):
        take(packed(*members))
    assert below(sandbox.parent) - {"packed-a.tar"} <= {"sandbox", *(f"sandbox/{name}" for name in below(sandbox))}


@pytest.mark.parametrize("name", ["../evil", "/evil", "d/../../evil"])
def test_a_zip_that_reaches_out_is_refused(sandbox: Path, name: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed_zip:
        packed_zip.writestr(name, PLAIN)
    with pytest.raises(FetchError, match="leads out"):
        take(file.getvalue(), "a.zip")
    assert below(sandbox) == set()


def test_links_that_were_there_before_lead_nowhere(sandbox: Path) -> None:
    (sandbox / "d").symlink_to("..")
    (sandbox / "f").symlink_to("../evil")
    with pytest.raises(FetchError, match="behind a link"):
        take(packed(member("d/evil")))
    take(packed(member("f")))
    assert not (sandbox.parent / "evil").exists()
    assert (sandbox / "f").read_bytes() == PLAIN and not (sandbox / "f").is_symlink()


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def spoil(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 64]) + data[middle + 64 :]


@pytest.mark.parametrize("damage", [cut, spoil])
@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_damage_is_an_error(sandbox: Path, compression: str, damage: Callable[[bytes], bytes]) -> None:
    data = packed(*(member(f"f{n}", os.urandom(5000)) for n in range(20)), compression=compression)
    with pytest.raises(FetchError, match="damaged"):
        take(damage(data), f"a.tar.{compression}")


@pytest.mark.parametrize("length", [700, 1024 + 300, 2 * 1024 + 100])
def test_a_tar_that_ends_early_is_an_error(sandbox: Path, length: int) -> None:
    with pytest.raises(FetchError, match="damaged"):
        take(packed(*(member(f"f{n}", b"x" * 400) for n in range(4)))[:length])


def test_a_header_that_is_no_header_is_an_error(sandbox: Path) -> None:
    data = bytearray(packed(member("a"), member("b")))
    data[1024 + 10] ^= 1  # the second header no longer fits its sum
    with pytest.raises(FetchError, match="damaged"):
        take(bytes(data))


def test_a_zip_with_a_wrong_sum_or_a_password_is_an_error(sandbox: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed_zip:
        packed_zip.writestr("f", PLAIN)
    with pytest.raises(FetchError, match="damaged"):
        take(file.getvalue().replace(PLAIN, PLAIN.upper()), "a.zip")
    locked = bytearray(file.getvalue())
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RuntimeError, match="password"):
        take(bytes(locked), "a.zip")
    with pytest.raises(FetchError, match="damaged"):
        take(b"no archive at all", "a.zip")


def test_a_bomb_stops_early(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = member("zeros", bytes(24 << 20))
    for name, data in (("a.tgz", packed(zeros, compression="gz")), ("zeros.gz", gzip.compress(zeros[1]))):
        with pytest.raises(FetchError, match="more than 8 MiB"):
            take(data, name, most=8 << 20)
        assert sum(path.stat().st_size for path in sandbox.iterdir()) <= 8 << 20
    monkeypatch.setattr(unpack, "RATIO_FROM", 4 << 20)
    with pytest.raises(FetchError, match="bomb"):
        take(packed(zeros, compression="gz"), "a.tgz")


def test_too_many_entries_stop_early(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 10)
    with pytest.raises(FetchError, match="more than 10 entries"):
        take(packed(*(member(f"f{n}") for n in range(100))))
    assert len(below(sandbox)) <= 10


def ring(path: Path) -> bool:
    """Whether a link leads to itself in the end. The system is asked: ``resolve`` invents places for ``a -> a//b``."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


PARTS = st.sampled_from(["a", "b", "..", ".", "", "c", "stdout"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
MEMBERS = st.one_of(
    NAMES.map(member),
    st.builds(link, NAMES, NAMES),
    st.builds(link, NAMES, NAMES, st.just(tarfile.LNKTYPE)),
    NAMES.map(lambda name: member(name, b"", type=tarfile.DIRTYPE)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEMBERS, max_size=6))
@example([link("a", "a//b")])
def test_whatever_is_in_it_nothing_leaves(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    members: list[tuple[tarfile.TarInfo, bytes]],
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    sandbox = outside / "x" / "sandbox"
    sandbox.mkdir(parents=True)
    monkeypatch.chdir(sandbox)
    try:
        take(packed(*members))
    except (FetchError, OSError):
        (outside / "x" / "packed-a.tar").unlink(missing_ok=True)
    assert below(outside / "x") - {"sandbox"} == {f"sandbox/{name}" for name in below(sandbox)}
    for path in sandbox.rglob("*"):
        if path.is_symlink():
            if ring(path):
                continue
            end = path.resolve()
            assert end == sandbox or sandbox in end.parents
