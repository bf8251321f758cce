"""An administrator's day at the command line: a user comes, works, is accounted for, and goes."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from retz.client import ApiError, AsyncClient, Client
from retz.config import ClientConfig, load_client
from tests.server_process import ServerProcess

from . import terminal
from .terminal import Said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("admin") / "home", settings={"RETZ_LOCAL_CPUS": "2"})
    try:
        running.start(["--shared-uid"])
        yield running
    finally:
        running.destroy()


def retz(server: ServerProcess, *words: str, config: Path | None = None) -> Said:
    chosen = ["-C", str(config)] if config else []
    return terminal.retz(server, *chosen, *words)


def test_a_user_comes_works_is_accounted_for_and_goes(server: ServerProcess, tmp_path: Path) -> None:
    made = retz(server, "admin", "create-user", "--info", "Ann")
    assert (made.code, made.err) == (0, "")
    ann = tmp_path / "ann.toml"
    ann.write_text(made.out)
    assert retz(server, "run", "--", "echo", "hello", config=ann).out == "hello\n"
    key = retz(server, "status", "--json", config=ann).json["user"]["key"]
    assert retz(server, "admin", "list-user", config=ann).code == 1
    rows = retz(server, "admin", "usage", "--json").json["rows"]
    assert [(row["user"], row["info"], row["finished"]) for row in rows] == [(key, "Ann", 1)]
    assert rows[0]["cpu_hours"] > 0
    assert key in retz(server, "admin", "usage", "--since", "7d", "--csv").out.splitlines()[1]
    waiting = retz(server, "schedule", "--hold", "--", "true", config=ann).out.strip()
    assert retz(server, "list", "--json").json["jobs"] == []
    (seen,) = retz(server, "admin", "jobs", "--json").json["jobs"]
    assert (seen["owner"], str(seen["id"])) == (key, waiting)
    assert key in retz(server, "admin", "jobs").out
    assert retz(server, "admin", "kill", "--user", key, "--all").out == f"job {waiting}: killed\n"
    assert retz(server, "admin", "disable-user", "-id", key).code == 0
    said = retz(server, "list", config=ann)
    assert (said.code, "disabled" in said.err) == (1, True)
    assert retz(server, "admin", "enable-user", key).code == 0
    ann.write_text(retz(server, "admin", "rotate-secret", key).out)
    assert retz(server, "list", config=ann).code == 0
    records = retz(server, "admin", "audit", "--json").json["records"]
    done = [record["what"] for record in records if key in record["whom"]]
    assert done == ["create-user", "kill", "disable-user", "enable-user", "rotate-secret"]
    secret = ann.read_text().split("secret = ")[1].strip().strip('"')
    assert secret not in json.dumps(records) and secret not in (server.home / "server.log").read_text()


def test_many_users_get_a_file_each_that_others_cannot_read(server: ServerProcess, tmp_path: Path) -> None:
    people = tmp_path / "people.txt"
    people.write_text("bob\n\ncarol@home:daemon\n")
    said = retz(server, "admin", "create-users", "--file", str(people), "--output", str(tmp_path))
    assert said.code == 0
    for name in ("bob", "carol@home"):
        file = tmp_path / f"retz-{name}.toml"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert retz(server, "list", config=file).code == 0
        assert str(file) in said.out
    users = retz(server, "admin", "list-user", "--json").json["users"]
    assert {user["info"]: user["unix_user"] for user in users[-2:]} == {"bob": None, "carol@home": "daemon"}
    before = len(users)
    again = retz(server, "admin", "create-users", "--file", str(people), "--output", str(tmp_path))
    assert (again.code, "exists" in again.err) == (1, True)
    people.write_text("../evil\n")
    assert "names a file" in retz(server, "admin", "create-users", "--file", str(people)).err
    people.write_text("dan\n\neve:no-such-user\nfay:root\n")
    wrong = retz(server, "admin", "create-users", "--file", str(people), "--output", str(tmp_path))
    assert wrong.code == 1 and "line 1" not in wrong.err
    assert "\n  line 3: this machine has no Unix user 'no-such-user'" in wrong.err
    assert "\n  line 4: root is root: no user's jobs run as root" in wrong.err
    assert not list(tmp_path.glob("retz-dan*"))
    assert len(retz(server, "admin", "create-users", "3", "--json").json["users"]) == 3
    assert len(retz(server, "admin", "list-user", "--json").json["users"]) == before + 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get-user"], "which user?"),
        (["get-user", "nobody"], "there is no user 'nobody'"),
        (["set-user", "nobody"], "nothing to change"),
        (["create-users"], "how many?"),
        (["usage", "--since", "yesteryear"], "not a time"),
        (["kill"], "which jobs?"),
        (["kill", "--user", "x"], "which jobs?"),
        (["gc", "--older-than", "1d", "--leeway", "3"], "not both"),
    ],
)
def test_what_cannot_be_done_is_told(server: ServerProcess, words: list[str], said: str) -> None:
    answer = retz(server, "admin", *words)
    assert answer.code in (1, 2)
    assert said in answer.err and "Traceback" not in answer.err


def test_the_last_administrator_cannot_lock_everybody_out(server: ServerProcess) -> None:
    key = retz(server, "status", "--json").json["user"]["key"]
    for words in (["disable-user", key], ["set-user", key, "--no-admin"]):
        said = retz(server, "admin", *words)
        assert (said.code, "last enabled administrator" in said.err) == (1, True)


def test_without_shared_uid_a_second_user_is_refused(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home")
    try:
        server.start()
        said = retz(server, "admin", "create-user")
        assert (said.code, "--shared-uid" in said.err) == (1, True)
    finally:
        server.destroy()


def test_the_same_from_python(server: ServerProcess) -> None:
    config = load_client(environ=server.environment, cwd=server.home)
    with Client(config) as admin:
        made = admin.create_user("Dora")
        assert made.secret is not None and made.secret not in repr(made)
        assert admin.user(made.key).secret is None
        with Client(config, key=made.key, secret=made.secret) as dora:
            assert dora.run("true").exit_code == 0
            assert [row.finished for row in dora.usage_report().rows] == [1]
            with pytest.raises(ApiError) as refused:
                dora.users()
            assert refused.value.status == 403
        assert made.key in [row.user for row in admin.usage_report(user="*").rows]
        assert admin.change_user(made.key, enabled=False).enabled is False
        assert admin.rotate_secret(made.key).secret not in (None, made.secret)
        assert [each.what for each in admin.audit(limit=2)] == ["disable-user", "rotate-secret"]
        assert admin.gc(86_400).sandboxes == 0
    asyncio.run(_the_same_waiting(config))


async def _the_same_waiting(config: ClientConfig) -> None:
    async with AsyncClient(config) as admin:
        (made,) = await admin.create_users([{"info": "Emil"}])
        assert (await admin.user(made.key)).info == "Emil"
        assert (await admin.create_user("Fay")).key in [user.key for user in await admin.users()]
        assert (await admin.change_user(made.key, info="E.")).info == "E."
        assert (await admin.rotate_secret(made.key)).key == made.key
        assert made.key not in [row.user for row in (await admin.usage_report(user="*")).rows]
        assert (await admin.audit(limit=1))[0].whom == (made.key,)
        assert (await admin.gc(86_400, records=True)).records == 0
