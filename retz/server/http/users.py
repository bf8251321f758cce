"""Users and the audit record: for administrators."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from retz.model.audit import AuditRecord
from retz.model.user import UNIX_NAME, User

from ..users import NewUser, UserChange
from . import body as bodies
from .api import Call
from .responses import json_of
from .views import Time, time_of

MAX_USERS_PER_REQUEST = 1000
MAX_AUDIT = 10_000
FOR_EVER = 253402300800.0

Info = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
UnixUser = Annotated[str, Meta(max_length=32, pattern=f"^({UNIX_NAME})?$")]


class UserAccount(Struct):
    """A user. Nobody is ever shown a secret again."""

    key: str
    enabled: bool
    admin: bool
    info: str
    unix_user: str | None
    created: Time


class UserSecret(Struct):
    """A user with the secret that signs their requests: it is told this once."""

    key: str
    secret: str
    enabled: bool
    admin: bool
    info: str
    unix_user: str | None
    created: Time


class UserAccounts(Struct):
    """All users, in order of creation."""

    users: list[UserAccount]


class UserSecrets(Struct):
    """The users made, in the order of the request."""

    users: list[UserSecret]


class NewUserRequest(Struct, forbid_unknown_fields=True):
    """A user to be made."""

    info: Info = ""
    admin: bool = False
    unix_user: UnixUser | None = None


class CreateRequest(Struct, forbid_unknown_fields=True):
    """Users to be made, all or none."""

    users: Annotated[list[NewUserRequest], Meta(min_length=1, max_length=MAX_USERS_PER_REQUEST)]


class UserPatch(Struct, forbid_unknown_fields=True):
    """What shall change. An empty ``unix_user`` takes the mapping away."""

    enabled: bool | None = None
    admin: bool | None = None
    info: Info | None = None
    unix_user: UnixUser | None = None


class AuditView(Struct):
    """One thing that an administrator did."""

    id: str
    at: Time
    who: str
    what: str
    whom: tuple[str, ...]
    detail: str
    origin: str


class AuditList(Struct):
    """The newest records of a time, oldest first."""

    records: list[AuditView]


_decode_create = msgspec.json.Decoder(CreateRequest).decode
_decode_patch = msgspec.json.Decoder(UserPatch).decode


async def list_users(call: Call) -> web.StreamResponse:
    """``GET /users``."""
    call.params()
    await call.core.settled()
    return json_of(UserAccounts([account_of(user) for user in call.core.users.all()]))


async def create_users(call: Call) -> web.StreamResponse:
    """``POST /users``."""
    call.params()
    call.core.require_writable()
    request = bodies.decode(_decode_create, call.body.data)
    wanted = [NewUser(info=each.info, admin=each.admin, unix_user=each.unix_user) for each in request.users]
    made = await call.core.users.create(call.actor, wanted)
    return json_of(UserSecrets([_with_secret(user) for user in made]), 201)


async def get_user(call: Call) -> web.StreamResponse:
    """``GET /users/{key}``."""
    call.params()
    await call.core.settled()
    return json_of(account_of(call.core.users.get(_key(call))))


async def patch_user(call: Call) -> web.StreamResponse:
    """``PATCH /users/{key}``."""
    call.params()
    call.core.require_writable()
    request = bodies.decode(_decode_patch, call.body.data)
    change = UserChange(enabled=request.enabled, admin=request.admin, info=request.info, unix_user=request.unix_user)
    return json_of(account_of(await call.core.users.update(call.actor, _key(call), change)))


async def rotate_secret(call: Call) -> web.StreamResponse:
    """``POST /users/{key}/secret``."""
    call.params()
    call.core.require_writable()
    return json_of(_with_secret(await call.core.users.rotate(call.actor, _key(call))))


async def audit(call: Call) -> web.StreamResponse:
    """``GET /audit``."""
    params = call.params("since", "until", "limit")
    since, until = params.time("since"), params.time("until")
    limit = params.integer("limit", 1000, 1, MAX_AUDIT)
    records = call.core.audit.between(since or 0.0, FOR_EVER if until is None else until, limit)
    await call.core.settled()
    return json_of(AuditList([_audit_of(record) for record in records]))


def _key(call: Call) -> str:
    return call.request.match_info["key"]


def account_of(user: User) -> UserAccount:
    """The view of a user."""
    return UserAccount(user.key, user.enabled, user.admin, user.info, user.unix_user, time_of(user.created))


def _with_secret(user: User) -> UserSecret:
    created = time_of(user.created)
    return UserSecret(user.key, user.secret, user.enabled, user.admin, user.info, user.unix_user, created)


def _audit_of(record: AuditRecord) -> AuditView:
    at = time_of(record.at)
    return AuditView(record.id, at, record.who, record.what, record.whom, record.detail, record.origin)
