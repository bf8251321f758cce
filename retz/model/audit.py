"""The audit record: what an administrator did."""

from __future__ import annotations

from msgspec import Struct


class AuditRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing that an administrator did.

    Attributes:
        id: Sorts as the time does.
        at: When, seconds since the epoch.
        who: Access key of the administrator.
        what: ``create-user``, ``disable-user``, ``kill``, ``queue`` and so on.
        whom: Access keys of the users it was done to.
        detail: What exactly, in words; never a secret.
        origin: Network address that it was asked from.
    """

    id: str
    at: float
    who: str
    what: str
    whom: tuple[str, ...] = ()
    detail: str = ""
    origin: str = ""
