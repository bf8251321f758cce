"""The list of ``retz admin create-users --file``: a user per line, ``NAME`` or ``NAME:UNIX_USER``.

A list is taken whole or not at all, and every wrong line is named with what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from retz.client.errors import ApiError
from retz.model.user import UNIX_NAME

from .output import plural

MOST_TOLD = 20
_FILE_NAME = re.compile(r"[\w.@+-]+")
_UNIX_USER = re.compile(UNIX_NAME)
_PLACE = re.compile(r"users\[(\d+)\]")


class Person(NamedTuple):
    """A user who is to be made. ``line``: where the list says so, from 1."""

    line: int
    info: str
    unix_user: str | None


Wrong = tuple[Person, str]
"""Who, and what is wrong with that line."""


def read(lines: Iterable[str], unix_user: str | None) -> list[Person]:
    """The people of a list; empty lines are none.

    Args:
        unix_user: Of those whose line names none.
    """
    people = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            info, colon, own = line.strip().rpartition(":")
            people.append(Person(number, info.strip() if colon else own, own.strip() if colon else unix_user))
    return people


def wrong_texts(people: Sequence[Person]) -> list[Wrong]:
    """Who is named in a way that cannot be meant."""
    wrong = []
    for person in people:
        if not person.info:
            wrong.append((person, "there is no name before the colon: write NAME:UNIX_USER"))
        elif person.unix_user is not None and not _UNIX_USER.fullmatch(person.unix_user):
            said = f"{person.unix_user!r} is" if person.unix_user else "behind the colon is"
            wrong.append((person, f"{said} no name of a Unix user: write NAME:UNIX_USER, or NAME alone"))
    return wrong


def wrong_names(people: Sequence[Person]) -> list[Wrong]:
    """Who cannot have a file of their own name."""
    wrong, first = [], dict[str, Person]()
    for person in people:
        if not _FILE_NAME.fullmatch(person.info):
            wrong.append((person, f"{person.info!r} names a file: letters, digits and . _ @ + - only, please"))
        elif first.setdefault(person.info, person) is not person:
            line = first[person.info].line
            wrong.append((person, f"{person.info!r} comes twice (line {line}): each names a file of its own"))
    return wrong


def path_of(person: Person, directory: Path) -> Path:
    """Where the configuration of a person goes."""
    return directory / f"retz-{person.info}.toml"


def existing(people: Sequence[Person], directory: Path) -> list[Wrong]:
    """Whose file exists already."""
    paths = [(person, path_of(person, directory)) for person in people]
    return [
        (person, f"{path} exists: move it away, or name another directory with --output")
        for person, path in paths
        if path.exists()
    ]


def refused(people: Sequence[Person], error: ApiError) -> ApiError:
    """The server's refusal, told by lines where it says who is to blame."""
    wrong = [(people[int(found[1])], text) for field, text in error.errors if (found := _PLACE.search(field))]
    return ApiError(error.status, error.code, told(wrong), error.errors) if wrong else error


def told(wrong: Sequence[Wrong]) -> str:
    """All wrong lines, for people."""
    lines = [f"  line {person.line}: {text}" for person, text in sorted(wrong, key=lambda each: each[0].line)]
    more = len(lines) - MOST_TOLD
    lines[MOST_TOLD:] = [f"  and {plural(more, 'more line')}"] if more > 0 else []
    return "\n".join(["nobody was made; of the list is wrong", *lines])
