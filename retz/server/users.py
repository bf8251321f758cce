"""Users: who there is, what they may do, and whose Unix rights their jobs have.

Every change here is an administrator's and leaves an audit record in the same atomic batch.
"""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Callable, Iterable, Sequence, Set

from msgspec import Struct
from msgspec.structs import replace

from retz.config_server import ServerConfig
from retz.model.user import User
from retz.store.database import Change, RecordTable, Ticket

from .audit import Actor, Audit
from .problem import FieldError, Problem
from .unix_users import default_name

SECRET_BYTES = 16
"""32 hexadecimal digits, for keys and for secrets."""

MOST_TOLD = 20
"""Of a request so many users are blamed at once."""

Apply = Callable[[Sequence[Change]], Ticket]


class NewUser(Struct, frozen=True, kw_only=True):
    """What is said of a user who is to be made."""

    info: str = ""
    admin: bool = False
    unix_user: str | None = None


class UserChange(Struct, frozen=True, kw_only=True):
    """What is to change; None leaves a field as it is. An empty ``unix_user`` takes the mapping away."""

    enabled: bool | None = None
    admin: bool | None = None
    info: str | None = None
    unix_user: str | None = None


class Users:
    """The users of one server. Methods check and apply at once; await the ticket for durability."""

    def __init__(
        self, table: RecordTable, apply: Apply, audit: Audit, config: ServerConfig, clock: Callable[[], float]
    ) -> None:
        self._table = table
        self._apply = apply
        self._audit = audit
        self._config = config
        self._clock = clock

    def all(self) -> list[User]:
        """Everybody, in order of creation."""
        users: Iterable[User] = self._table.records().values()
        return sorted(users, key=lambda user: (user.created, user.key))

    def get(self, key: str) -> User:
        """One user.

        Raises:
            Problem: ``not-found``.
        """
        user: User | None = self._table.record(key)
        if user is None:
            raise Problem("not-found", f"there is no user {key!r}; 'retz admin list-user' shows all")
        return user

    async def create(self, actor: Actor, wanted: Sequence[NewUser]) -> list[User]:
        """Make users, all or none; durable on return. Only this and :meth:`rotate` ever tell a secret.

        Raises:
            Problem: ``unprocessable`` if a Unix user cannot be meant, ``conflict`` if jobs of several would share one
                (see :meth:`_check_sharing`); it names all who are to blame (at most twenty).
        """
        now = self._clock()
        made: list[User] = []
        wrong: list[tuple[Problem, FieldError]] = []
        taken = self._taken()
        for place, each in enumerate(wanted):
            try:
                user = self._new(each, now)
                self._check_sharing(user, taken)
            except Problem as problem:
                wrong.append((problem, FieldError(f"users[{place}].unix_user", problem.detail)))
                if len(wrong) == MOST_TOLD:
                    break
            else:
                taken.add(self._rights(user))
                made.append(user)
        if wrong:
            first = wrong[0][0]
            raise Problem(first.code, first.detail, [error for _, error in wrong])
        changes = [Change("users", user.key, user) for user in made]
        notes = [self._audit.change(actor, "create-user", [user.key], _described(user)) for user in made]
        await self._apply([*changes, *notes])
        return made

    async def update(self, actor: Actor, key: str, change: UserChange) -> User:
        """Change a user; durable on return. A disabled one is refused from this instant on.

        Raises:
            Problem: ``not-found``; ``conflict`` if no enabled administrator would be left, or Unix users shared.
        """
        old = self.get(key)
        fields = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not None}
        if "unix_user" in fields:
            fields["unix_user"] = self._unix_user(fields["unix_user"])
        new = replace(old, **fields)
        if new == old:
            return old
        self._check_admins(old, new)
        if new.enabled and (not old.enabled or new.unix_user != old.unix_user):
            self._check_sharing(new, self._taken(key))
        await self._apply([Change("users", key, new), *self._notes(actor, old, new)])
        return new

    async def rotate(self, actor: Actor, key: str) -> User:
        """Give a user a new secret; what was signed with the old one is refused from this instant on."""
        user = replace(self.get(key), secret=secrets.token_hex(SECRET_BYTES))
        await self._apply([Change("users", key, user), self._audit.change(actor, "rotate-secret", [key])])
        return user

    def sharing(self) -> str | None:
        """What to tell the operator if several enabled users share a Unix user without that being allowed."""
        enabled = [user for user in self.all() if user.enabled]
        kinds = {self._rights(user) for user in enabled}
        if self._config.shared_uid or None in kinds or len(kinds) == len(enabled):
            return None
        return (
            "jobs of several users run as the same Unix user: they can read each other's files. Give each one of their "
            "own ('retz admin set-user KEY --unix-user NAME'; with the local engine only a server that root starts can "
            "use it), or set retz.shared-uid"
        )

    # -- rules ------------------------------------------------------------------------------------------------

    def _new(self, wanted: NewUser, now: float) -> User:
        return User(
            key=secrets.token_hex(SECRET_BYTES),
            secret=secrets.token_hex(SECRET_BYTES),
            admin=wanted.admin,
            info=wanted.info,
            created=now,
            unix_user=self._unix_user(wanted.unix_user),
        )

    def _notes(self, actor: Actor, old: User, new: User) -> list[Change]:
        notes = []
        if new.enabled != old.enabled:
            notes.append(("enable-user" if new.enabled else "disable-user", ""))
        changed = [name for name in ("admin", "info", "unix_user") if getattr(new, name) != getattr(old, name)]
        if changed:
            notes.append(("set-user", ", ".join(f"{name} = {getattr(new, name)!r}" for name in changed)))
        return [self._audit.change(actor, what, [new.key], detail) for what, detail in notes]

    def _check_admins(self, old: User, new: User) -> None:
        if not (old.admin and old.enabled) or (new.admin and new.enabled):
            return
        if not any(user.admin and user.enabled and user.key != old.key for user in self.all()):
            raise Problem(
                "conflict",
                "this is the last enabled administrator: make another one first ('retz admin create-user --admin')",
            )

    def _taken(self, but: str = "") -> set[str | None]:
        """Whose Unix rights jobs of enabled users have already, those of one not counted."""
        return {self._rights(each) for each in self.all() if each.enabled and each.key != but}

    def _check_sharing(self, user: User, taken: Set[str | None]) -> None:
        """Refuse a user whose jobs would have Unix rights that are taken.

        Raises:
            Problem: ``conflict``, saying what sharing means.
        """
        rights = self._rights(user)
        if self._config.shared_uid or rights is None or rights not in taken:
            return
        meaning = f"jobs of this user and of another would run as the same Unix user ({rights}): they could read, "
        meaning += "change and end each other's files and jobs, whatever Retz hides. "
        if self._can_choose():
            way = "Give the user one of their own (--unix-user NAME), or"
        else:
            way = "Run the server as root to keep users apart, or"
        raise Problem("conflict", f"{meaning}{way} allow it with retz.shared-uid = true (retz-server --shared-uid)")

    def _rights(self, user: User) -> str | None:
        """The Unix user whose rights the jobs of a user have; None where nothing runs."""
        if self._config.engine == "null":
            return None
        if not self._can_choose():
            return f"the server's, uid {os.geteuid()}"
        return user.unix_user or default_name(self._config)

    def _can_choose(self) -> bool:
        """Whether jobs can run as other Unix users than the server's."""
        return self._config.engine == "mesos" or os.geteuid() == 0

    def _unix_user(self, name: str | None) -> str | None:
        """A Unix user that jobs may run as; None for none.

        Raises:
            Problem: ``unprocessable``: this machine does not know it, or it is root.
        """
        if not name:
            return None
        if self._config.engine != "local":
            if name == "root":
                raise Problem("unprocessable", "no user's jobs run as root")
            return name
        try:
            uid = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            raise Problem("unprocessable", f"this machine has no Unix user {name!r}; make it first (adduser)") from None
        if uid == 0:
            raise Problem("unprocessable", f"{name} is root: no user's jobs run as root")
        return name


def _described(user: User) -> str:
    parts = [f"info = {user.info!r}"] if user.info else []
    parts += ["admin"] if user.admin else []
    parts += [f"unix_user = {user.unix_user!r}"] if user.unix_user else []
    return ", ".join(parts)
