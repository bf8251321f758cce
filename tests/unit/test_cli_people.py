"""Lists of people for ``retz admin create-users --file``."""

from __future__ import annotations

from pathlib import Path

import pytest

from retz.cli.errors import guarded
from retz.cli.people import MOST_TOLD, Person, existing, read, refused, told, wrong_names, wrong_texts
from retz.client.errors import ApiError
from tests.doubles.api import FakeApi, problem


def test_a_line_is_a_name_and_perhaps_a_unix_user() -> None:
    people = read(["ann\n", "\n", "bob : bob_lab \n", "  Dr. Cy:cy"], "batch")
    assert people == [Person(1, "ann", "batch"), Person(3, "bob", "bob_lab"), Person(4, "Dr. Cy", "cy")]
    assert read(["ann\r\n"], None) == [Person(1, "ann", None)]
    assert wrong_texts(people) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ann:", "behind the colon"),
        (":ann", "no name before the colon"),
        (":", "no name before the colon"),
        ("ann:1000", "'1000' is no name of a Unix user"),
        ("ann:a b", "'a b' is no name"),
        ("ann:-x", "'-x' is no name"),
        ("ann:" + "x" * 40, "is no name"),
    ],
)
def test_wrong_texts_say_what_to_write(line: str, said: str) -> None:
    ((person, text),) = wrong_texts(read(["fine:ok", line], None))
    assert person.line == 2 and said in text and "NAME:UNIX_USER" in text


def test_names_are_those_of_files_and_come_once(tmp_path: Path) -> None:
    people = read(["ann", "bob:b", "../ann", "ann:other", "a b"], None)
    wrong = {person.line: text for person, text in wrong_names(people)}
    assert set(wrong) == {3, 4, 5} and "twice (line 1)" in wrong[4]
    (tmp_path / "retz-bob.toml").touch()
    ((person, text),) = existing(people[:2], tmp_path)
    assert person.line == 2 and "exists: move it away" in text


def test_what_the_server_refuses_is_told_by_lines() -> None:
    people = read(["", "ann", "", "bob:bob"], None)
    error = ApiError(422, "unprocessable", "no bob", [("users[1].unix_user", "no bob"), ("users[0].info", "too long")])
    said = refused(people, error)
    assert str(said).endswith("wrong\n  line 2: too long\n  line 4: no bob")
    assert (said.status, said.code, said.errors) == (422, "unprocessable", error.errors)
    other = ApiError(503, "unavailable", "not now")
    assert refused(people, other) is other


def test_of_many_wrong_lines_the_first_are_told() -> None:
    wrong = [(person, "x") for person in read(["a"] * (MOST_TOLD + 3), None)]
    lines = told(wrong).split("\n")
    assert len(lines) == MOST_TOLD + 2 and lines[-1] == "  and 3 more lines"


def test_nobody_is_made_where_a_line_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from retz.cli import cli

    people, output = tmp_path / "people.txt", tmp_path / "out"
    output.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with FakeApi() as api:
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        api.routes["POST /api/v2/users"] = lambda request: problem(409, "conflict", "shared")
        command = ["admin", "create-users", "--file", str(people), "--output", str(output)]
        for content, said in (
            (b"ann\nann:\n", "line 2: behind the colon"),
            (b"ann\nann\n", "line 2: 'ann' comes twice"),
            (b"\xff\xfe\n", "not UTF-8 text (byte 0)"),
            (b"\n", "0 users: make 1 to 1000"),
        ):
            people.write_bytes(content)
            assert guarded(cli, command) == 2
            assert said in capsys.readouterr().err
        assert api.requests == []
        people.write_text("ann:a\nbob\n")
        assert guarded(cli, [*command, "--unix-user", "batch"]) == 1
        assert "shared" in capsys.readouterr().err
        assert list(output.iterdir()) == []
        (asked,) = api.asked("POST /api/v2/users")
        assert [user["unix_user"] for user in asked.body["users"]] == ["a", "batch"]
