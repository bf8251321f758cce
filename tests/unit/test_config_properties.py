"""``retz.properties`` of the Java Retz: read as Java reads it, and turned into our keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.cli import output
from retz.cli.app import App
from retz.config import ConfigError, load_client
from retz.config_keys import KEYS
from retz.config_properties import convert, parse
from retz.config_server import load_server

SERVER = """\
# Retz server configuration
retz.mesos = 10.0.0.1:5050
retz.bind = http://127.0.0.1:9090
retz.authentication = true
retz.access.key = deadbeef
retz.access.secret = cafebabe
retz.user = nobody
retz.mesos.role = batch
retz.mesos.principal = retz
retz.mesos.refuse = 3
retz.mesos.failover.timeout = 604800
retz.max.running = 64
retz.max.cpus = 16
retz.max.mem = 31744
retz.max.gpus = 0
retz.max.ports = 10
retz.max.disk = 1024
retz.max.stock = 16
retz.max.list-jobs = 42
retz.max.file-size = 67108865
retz.planner.name = priority2
retz.job-queue.type = fit
retz.database.url = jdbc:h2:/var/lib/retz/db
retz.database.driver = org.h2.Driver
retz.gc = true
retz.gc.leeway = 1209600
retz.gc.interval = 600
retz.jmx.port = 9999
retz.tls.keystore.file =
"""
CLIENT = """\
retz.authentication = true
retz.server.uri = http://localhost:19090
retz.access.key = deadbeef
retz.access.secret = cafebabe
retz.tls.insecure = false
retz.jmx.port = 40822
"""


def written(path: Path, text: str, encoding: str = "latin-1") -> Path:
    file = path / "retz.properties"
    file.write_text(text, encoding=encoding)
    file.chmod(0o600)
    return file


def test_the_file_of_an_old_server(tmp_path: Path) -> None:
    config = load_server({}, environ={"HOME": str(tmp_path)}, file=written(tmp_path, SERVER))
    assert (config.engine, config.mesos_master, config.mesos_roles) == ("mesos", "10.0.0.1:5050", "batch")
    assert (config.bind, config.authentication) == ("http://127.0.0.1:9090", True)
    assert (config.access_key, config.access_secret) == ("deadbeef", "cafebabe")
    assert (config.mesos_user, config.mesos_principal) == ("nobody", "retz")
    assert (config.mesos_refuse, config.mesos_failover_timeout) == (3.0, 604800.0)
    assert (config.max_running, config.max_cpus, config.max_mem) == (64, 16.0, 31744)
    assert (config.max_gpus, config.max_ports, config.max_disk) == (0, 10, 1024)
    assert (config.max_list_jobs, config.max_file_size) == (42, 65)
    assert (config.planner_name, config.archive_keep) == ("priority", 1209600.0)
    left_out = [note.split(": ")[2] for note in config.settings.notes]
    assert left_out == [
        "retz.max.gpus", "retz.max.stock", "retz.planner.name", "retz.job-queue.type", "retz.database.url",
        "retz.database.driver", "retz.gc", "retz.gc.interval", "retz.jmx.port",
    ]  # fmt: skip
    assert all(note.startswith(f"{tmp_path}/retz.properties: line ") for note in config.settings.notes)


def test_the_file_of_an_old_client(tmp_path: Path) -> None:
    file = written(tmp_path, CLIENT)
    config = load_client({}, environ={}, file=file)
    assert (config.server_uri, config.access_key, config.access_secret) == (
        "http://localhost:19090", "deadbeef", "cafebabe",
    )  # fmt: skip
    assert config.authentication and not config.tls_insecure
    (note,) = config.notes
    assert "line 6: retz.jmx.port: has no meaning here" in note and "retz admin" in note
    assert config.settings.values["retz.access.key"].origin.place == f"{file}:3"


def test_options_and_environment_win_over_an_old_file(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "RETZ_MAX_RUNNING": "7"}
    config = load_server({"retz.engine": "local"}, environ=environ, file=written(tmp_path, SERVER))
    assert (config.engine, config.max_running, config.mesos_master) == ("local", 7, "10.0.0.1:5050")


def test_a_wrong_value_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"retz\.properties:2: retz\.mesos\.refuse: "):
        load_client({}, environ={}, file=written(tmp_path, "\nretz.mesos.refuse = soon\n"))


def test_a_secret_that_others_may_read_is_told_here_too(tmp_path: Path) -> None:
    file = written(tmp_path, CLIENT)
    file.chmod(0o644)
    assert any("chmod 600" in note for note in load_client({}, environ={}, file=file).notes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retz.planner.name = io.example.MyPlanner", "Java planner"),
        ("retz.max.qps = 3", "no key of Retz"),
        ("retz.tls.keystore.file = /etc/retz.jks", "retz.tls.certificate"),
        ("retz.max.ports = 0", "no limit"),
        ("retz.classpath = /opt/retz-server/lib", "Python"),
    ],
)
def test_what_has_no_meaning_is_named_once_with_what_to_do(line: str, said: str) -> None:
    found = convert(f"{line}\n{line}\n")
    assert found.values == {} and len(found.notes) == 1
    assert said in found.notes[0]


def test_our_own_keys_may_stand_in_such_a_file_too() -> None:
    found = convert("retz.data-dir = /srv/retz\nretz.engine = null\nretz.mesos = h:5050\n")
    assert found.values == {"retz.data-dir": "/srv/retz", "retz.engine": "null", "retz.mesos.master": "h:5050"}
    assert {key.name for key in KEYS} > set(found.values)


@pytest.mark.parametrize(("size", "mebibytes"), [("-1", "0"), ("0", "0"), ("1", "1"), ("67108864", "64"), ("x", "x")])
def test_file_sizes_become_mebibytes(size: str, mebibytes: str) -> None:
    assert convert(f"retz.max.file-size = {size}").values == {"retz.max.file-size": mebibytes}


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a=b", [("a", "b")]),
        ("a = b ", [("a", "b")]),
        ("a: b", [("a", "b")]),
        ("a b c", [("a", "b c")]),
        ("a", [("a", "")]),
        ("a==b", [("a", "=b")]),
        ("  a.b\t=\tc", [("a.b", "c")]),
        ("#a=b\n!c=d\n\n   \n  # e=f\ng=h", [("g", "h")]),
        ("a=b\\\n   c\\\n d\ne=f", [("a", "bcd"), ("e", "f")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\", [("a", "b")]),
        ("a\\ b\\=c=d", [("a b=c", "d")]),
        ("a=\\u00e9\\tx\\qy", [("a", "é\txqy")]),
        ("a=1\r\nb=2\rc=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        ("a=#b", [("a", "#b")]),
    ],
)
def test_the_format_of_java(text: str, entries: list[tuple[str, str]]) -> None:
    assert [(entry.name, entry.value) for entry in parse(text)] == entries


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    convert(text)
    for entry in parse(text):
        assert 1 <= entry.line <= len(text) + 1


def test_people_at_a_terminal_are_told_once_what_means_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda _stream: True)
    app = App(str(written(tmp_path, CLIENT)))
    assert app.config.access_key == app.config.settings.values["retz.access.key"].value
    assert capsys.readouterr().err.count("retz.jmx.port: has no meaning here") == 1
