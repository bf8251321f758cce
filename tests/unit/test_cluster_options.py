"""What the configuration says about a cluster, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retz.config import ConfigError
from retz.config_server import load_server
from retz.engine.base import EngineError
from retz.engine.mesos.framework import MesosOptions, RegistrationFile, framework_info, replaced
from retz.server.cluster import mesos_options


def options(tmp_path: Path, **given: object) -> MesosOptions:
    named = {f"retz.mesos.{name.replace('_', '-')}": value for name, value in given.items()}
    environ = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    return mesos_options(load_server({"retz.engine": "mesos", **named}, environ=environ), "http://127.0.0.1:19090")


@pytest.mark.parametrize(
    ("text", "master"),
    [
        ("m1:5050", "m1:5050"),
        ("m1", "m1:5050"),
        ("http://10.0.0.1:5060/", "10.0.0.1:5060"),
        ("[::1]:5050", "[::1]:5050"),
        ("zk://a:2181,b:2181/mesos", "zk://a:2181,b:2181/mesos"),
    ],
)
def test_masters(tmp_path: Path, text: str, master: str) -> None:
    assert options(tmp_path, master=text).master == master


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "retz.mesos.master ="),
        ("https://m1:5050", "plain HTTP"),
        ("m1:port", "write host:port"),
        ("m1:0", "write host:port"),
        ("::1:5050", "write host:port"),
        ("m1:5050/mesos", "write host:port"),
        ("zk://a:2181", "lacks hosts or path"),
    ],
)
def test_what_is_no_master(tmp_path: Path, text: str | None, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        options(tmp_path, master=text)


def test_the_secret_comes_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    given = options(tmp_path, master="m", principal="retz", secret_file=str(file))
    assert (given.principal, given.secret) == ("retz", "s3cret")
    assert "s3cret" not in repr(given)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        options(tmp_path, master="m", principal="retz", secret_file=str(file))
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="must hold the secret"):
        options(tmp_path, master="m", principal="retz", secret_file=str(file))
    with pytest.raises(ConfigError, match=r"set retz\.mesos\.principal"):
        options(tmp_path, master="m", secret_file=str(file))
    with pytest.raises(ConfigError, match="cannot read"):
        options(tmp_path, master="m", principal="retz", secret_file=str(tmp_path / "none"))


def test_roles_are_separated_by_commas(tmp_path: Path) -> None:
    assert options(tmp_path, master="m", roles="eng, ops,eng").roles == ("eng", "ops")
    assert options(tmp_path, master="m").roles == ("*",)


def test_the_framework_survives_restarts_and_says_what_it_can(tmp_path: Path) -> None:
    info = framework_info(options(tmp_path, master="m", user="nobody"), "F-1")
    assert info["checkpoint"] is True and info["failover_timeout"] == 7 * 86_400.0
    assert info["id"] == {"value": "F-1"} and info["user"] == "nobody" and info["roles"] == ["*"]
    assert {"type": "PARTITION_AWARE"} in info["capabilities"] and "principal" not in info
    assert info["webui_url"] == "http://127.0.0.1:19090"


def test_the_framework_id_is_remembered_with_those_before(tmp_path: Path) -> None:
    file = RegistrationFile(tmp_path / "framework.json")
    none = file.load()
    assert none.id is None and none.ids == ()
    first = replaced(none, "F-1")
    file.save(first)
    assert file.load() == first and first.ids == ("F-1",)
    removed = replaced(first, None)
    second = replaced(removed, "F-2")
    assert removed.ids == ("F-1",) and second.ids == ("F-2", "F-1")
    assert replaced(second, "F-2") == second


def test_a_damaged_framework_id_is_not_taken_for_none(tmp_path: Path) -> None:
    path = tmp_path / "framework.json"
    path.write_bytes(b'{"id": 3')
    with pytest.raises(EngineError, match="framework id"):
        RegistrationFile(path).load()
