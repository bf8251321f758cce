"""Commands, keys from the configuration, and what actions say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from retz.client.types import Job, Result, Results
from retz.model.job import State
from tui.actions import grace_text, named, shell_line, summary, wrong_priority
from tui.commands import Command, completions, parse
from tui.keymap import KeymapError, checked

COMMANDS = [
    Command("queue", "", lambda _: None, ("jobs",)),
    Command("quit", "", lambda _: None, ("q",)),
    Command("sort", "", lambda _: None, (), "FIELD", lambda: ["id", "priority", "pipeline"]),
]


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [("queue", "queue", ""), (":jobs", "queue", ""), ("q", "quit", ""), ("so id", "sort", "id"), (" qui ", "quit", "")],
)
def test_commands_are_found(line: str, name: str, argument: str) -> None:
    command, rest = parse(COMMANDS, line)
    assert (command.name, rest) == (name, argument)


@pytest.mark.parametrize(("line", "message"), [("qu", "queue, quit"), ("fly", "no command 'fly'")])
def test_what_is_no_command(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(COMMANDS, line)


def test_completion() -> None:
    assert completions(COMMANDS, "so") == ["sort "]
    assert completions(COMMANDS, "sort p") == ["sort priority", "sort pipeline"]
    assert completions(COMMANDS, "queue x") == []


def test_keys_are_checked() -> None:
    assert checked({}) == {}
    assert checked({"queue.kill": "x, ctrl+d", "app.quit": "Q"}) == {"queue.kill": "x,ctrl+d", "app.quit": "Q"}
    with pytest.raises(KeymapError, match=r"did you mean queue\.kill\?"):
        checked({"queue.kil": "x"})
    for key in ("hyper+x", "nokey", "", "x y"):
        with pytest.raises(KeymapError, match="there is no key"):
            checked({"queue.kill": key})


def job(id: int, state: State = "QUEUED", **fields: object) -> Job:
    return Job(id=id, state=state, submitted=datetime(2026, 11, 20, tzinfo=UTC), **fields)  # type: ignore[arg-type]


def test_results_are_told_as_they_are() -> None:
    def results(*each: Result) -> Results:
        ok = sum(result.ok for result in each)
        return Results(results=each, ok=ok, failed=len(each) - ok)

    done = Result(id=1, ok=True, state="KILLED")
    late = Result(id=2, ok=False, error="job 2 has ended already (FINISHED)")
    odd = Result(id=3, ok=False, error="job 3 is not queued")
    assert summary("kill", results(done, done, late)) == "2 killed, 1 had ended already"
    assert summary("hold", results(odd)) == "1 not: is not queued"
    assert summary("resubmit", results(Result(id=1, ok=True, new_id=9))) == "submitted again: job 9"
    assert summary("kill", results()) == "0 killed"


def test_questions_say_what_is_at_stake() -> None:
    lines = named([job(number, name=f"n{number}", owner="ann") for number in range(1, 12)], 11)
    assert "n1" in lines[0]
    assert lines[-1].endswith("and 3 more")
    assert grace_text([job(1)]) == "it does not run: it just leaves the queue"
    assert grace_text([job(1), job(2)]) == "none of them runs: they just leave the queue"
    running = [job(1, "STARTED", kill_grace_s=5.0), job(2, "STARTED", kill_grace_s=0.5)]
    assert grace_text(running) == "running ones get SIGTERM, and SIGKILL 0.5 to 5 s later"


def test_escape_sequences_do_not_get_into_questions() -> None:
    assert "\x1b" not in "".join(named([job(1, name="a\x1b[2Jb", owner="\x1bx")], 1))


def test_commands_are_copied_as_one_would_type_them() -> None:
    assert shell_line(job(1, command=("echo", "two words"))) == "echo 'two words'"


@pytest.mark.parametrize("text", ["x", "-21", "20", "1.5"])
def test_priorities(text: str) -> None:
    assert wrong_priority(text)
    assert not wrong_priority("-20")
