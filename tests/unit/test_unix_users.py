"""Whose rights jobs have: who may name whom, and what a server must be told."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any, cast

import pytest

from retz.config import ConfigError
from retz.config_server import ServerConfig, load_server
from retz.engine.local import prepare
from retz.engine.local.spawn import StartError
from retz.model.application import Application
from retz.model.container import Container
from retz.model.user import User
from retz.server import unix_users
from retz.server.problem import Problem
from retz.server.unix_users import check_configured, refusal, unix_user_of
from retz.server.users import Users
from retz.store.database import Change

PLAIN = User(key="p", secret="s")
MAPPED = User(key="m", secret="s", unix_user="alice")
ADMIN = User(key="a", secret="s", admin=True)
BATCH = Application(name="x", owner="p", user="batch")
ALICE = Application(name="x", owner="p", user="alice")
ROOT = Application(name="x", owner="p", user="root")


def config(tmp_path: Path, **options: object) -> ServerConfig:
    given = {
        "retz.data-dir": str(tmp_path),
        **{f"retz.{name.replace('_', '-' if name == 'shared_uid' else '.')}": value for name, value in options.items()},
    }
    return load_server(given, environ={"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("application", "owner", "user"),
    [
        (None, PLAIN, None),
        (None, MAPPED, "alice"),
        (Application(name="x", owner="m"), MAPPED, "alice"),
        (ALICE, MAPPED, "alice"),
        (BATCH, MAPPED, "batch"),
        (BATCH, ADMIN, "batch"),
        (None, None, None),
    ],
)
def test_the_user_of_a_job(application: Application | None, owner: User | None, user: str | None) -> None:
    assert unix_user_of(application, owner) == user


@pytest.mark.parametrize(
    ("application", "owner", "words"),
    [
        (Application(name="x", owner="p"), PLAIN, None),
        (ALICE, MAPPED, None),
        (ALICE, ADMIN, None),
        (BATCH, PLAIN, None),  # they would get it anyway
        (BATCH, MAPPED, "'batch' is not yours"),  # others' jobs run as that one, and theirs do not
        (ALICE, PLAIN, "'alice' is not yours"),
        (ALICE, None, "'alice' is not yours"),
        (None, PLAIN, None),
        (None, MAPPED, None),
        (None, User(key="r", secret="s", unix_user="root"), "root is only allowed with a container"),
        (ROOT, ADMIN, "root is only allowed with a container"),
        (ROOT, User(key="r", secret="s", unix_user="root"), "root is only allowed with a container"),
    ],
)
def test_who_may_name_whom(
    tmp_path: Path, application: Application | None, owner: User | None, words: str | None
) -> None:
    told = refusal(application, owner, config(tmp_path, local_user="batch"), can_choose=True)
    assert (told is None) == (words is None)
    assert words is None or words in str(told)


def test_root_where_the_configuration_names_it(tmp_path: Path) -> None:
    named = config(tmp_path, local_user="root")
    assert refusal(ROOT, PLAIN, named, can_choose=True) is None
    assert "not yours" in (refusal(ROOT, MAPPED, named, can_choose=True) or "")
    contained = Application(name="x", owner="a", user="root", container=Container("docker", "image"))
    assert refusal(contained, ADMIN, config(tmp_path, local_user="batch"), can_choose=True) is None


def test_a_server_that_is_not_root_has_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_users, "own_user", lambda: "alice")
    assert refusal(ALICE, PLAIN, config(tmp_path), can_choose=False) is None
    told = refusal(BATCH, ADMIN, config(tmp_path), can_choose=False)
    assert told is not None and "'batch'" in told and "'alice'" in told and "leave the user out" in told


def test_what_a_server_must_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for engine, key in (("local", "--local-user"), ("mesos", "retz.mesos.user")):
        with pytest.raises(ConfigError, match=rf"{key}.*useradd.*retz\.{engine}\.user = .*or \"root\""):
            check_configured(config(tmp_path, engine=engine))
    check_configured(load_server({"retz.engine": "mesos", "retz.mesos.user": "batch"}, environ={"HOME": str(tmp_path)}))
    with pytest.raises(ConfigError, match="no Unix user 'no-such-user'"):
        check_configured(config(tmp_path, local_user="no-such-user"))
    for name in ("root", "nobody"):
        check_configured(config(tmp_path, local_user=name))
    check_configured(config(tmp_path, engine="null"))
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    check_configured(config(tmp_path))
    check_configured(config(tmp_path, local_user="nobody"))
    with pytest.raises(ConfigError, match="runs as 'nobody' and can run jobs as nobody else"):
        check_configured(config(tmp_path, local_user="daemon"))


def users_of(tmp_path: Path, **given: object) -> Users:
    """The users of a server whose records are a dictionary."""
    kept: dict[str, User] = {"ann": User(key="ann", secret="s", admin=True)}

    class Table:
        def records(self) -> dict[str, User]:
            return kept

    class Nothing:
        def change(self, *_: object) -> Change:
            return Change("audit", "1", None)

    table, audit = cast(Any, Table()), cast(Any, Nothing())
    return Users(table, cast(Any, lambda changes: None), audit, config(tmp_path, **given), lambda: 0.0)


def check(users: Users, user: User) -> None:
    """Whether a user may come beside those whom there are."""
    users._check_sharing(user, users._taken(user.key))


@pytest.mark.parametrize(("engine", "uid"), [("local", 0), ("mesos", 0), ("mesos", 1234)])
def test_two_users_with_one_unix_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    given = {"engine": engine, f"{engine}_user": "batch"}
    plain, mapped = User(key="bob", secret="s"), User(key="cy", secret="s", unix_user="nobody")
    with pytest.raises(Problem, match=r"same Unix user \(batch\).*--unix-user.*retz\.shared-uid"):
        check(users_of(tmp_path, **given), plain)
    check(users_of(tmp_path, **given), mapped)
    with pytest.raises(Problem, match=r"\(nobody\)"):
        users_of(tmp_path, **given)._check_sharing(mapped, {"nobody"})
    check(users_of(tmp_path, shared_uid=True, **given), plain)
    with pytest.raises(Problem, match="root"):
        users_of(tmp_path, **given)._unix_user("root")


def test_a_mesos_server_that_names_nobody_runs_jobs_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_users, "own_user", lambda: "retz")
    users = users_of(tmp_path, engine="mesos")
    with pytest.raises(Problem, match=r"\(retz\)"):
        check(users, User(key="bob", secret="s"))
    with pytest.raises(Problem, match=r"\(retz\)"):
        check(users, User(key="bob", secret="s", unix_user="retz"))


def test_where_nothing_runs_nothing_is_shared(tmp_path: Path) -> None:
    check(users_of(tmp_path, engine="null"), User(key="bob", secret="s"))


def test_root_under_another_name_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.getpwnam("root")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: root)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match='write "root" if that is meant'):
        check_configured(config(tmp_path, local_user="toor"))
    with pytest.raises(Problem, match="toor is root"):
        users_of(tmp_path, local_user="nobody")._unix_user("toor")
    for name in ("toor", "root"):  # whatever a record says, before the start itself
        with pytest.raises(StartError, match="has root's rights"):
            prepare._look_up(name, contained=False)
