"""What a client sends to submit jobs, checked as far as text alone allows. Unknown fields are refused."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MAX_JOBS_PER_REQUEST = 100_000
MAX_COMMAND_BYTES = 128 * 1024 - 1
"""Linux refuses to execute a program with a single argument longer than this (MAX_ARG_STRLEN)."""
MAX_TAGS = 64
MAX_ENVIRONMENT_BYTES = 256 * 1024
MAX_KEY_LENGTH = 200
MAX_AFTER = 1000

Name = Annotated[str, Meta(max_length=200)]
After = Annotated[str, Meta(max_length=24)]
Tag = Annotated[str, Meta(min_length=1, max_length=100)]


class ResourcesSpec(Struct, forbid_unknown_fields=True, gc=False):
    """Amounts asked for; sizes are MiB or a text with a unit."""

    cpus: float | None = None
    mem: int | float | str | None = None
    disk: int | float | str | None = None
    gpus: int | None = None
    ports: int | None = None


class JobSpec(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One job as submitted. See docs/api.md for the meaning of each field."""

    command: str | tuple[str, ...]
    application: Name | None = None
    name: Name | None = None
    tags: Annotated[tuple[Tag, ...], Meta(max_length=MAX_TAGS)] | None = None
    priority: Annotated[int, Meta(ge=-20, le=19)] | None = None
    resources: ResourcesSpec | None = None
    environment: dict[str, str] | None = None
    attributes: Annotated[str, Meta(max_length=1000)] | None = None
    directory: Annotated[str, Meta(max_length=4096)] | None = None
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    kill_grace_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    max_retries: Annotated[int, Meta(ge=0, le=1000)] | None = None
    pipeline: Name | None = None
    run: Name | None = None
    held: bool = False
    after: Annotated[tuple[Annotated[int, Meta(ge=1)] | After, ...], Meta(max_length=MAX_AFTER)] | None = None
    start_at: Annotated[str, Meta(max_length=40)] | Annotated[float, Meta(ge=0)] | None = None
    group: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    max_fails: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    array: Annotated[str, Meta(max_length=60)] | None = None
    predicted: bool | None = None
    on_end: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    strict: bool = False


class Submission(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A remembered submission key: repeating it returns the same jobs.

    Attributes:
        id: ``<owner>/<key>``.
        digest: Hex digest of the request's body.
        first, count: The ids it was given: a block.
        ids: The ids, where they are no block (each array has the ids of its tasks behind its own).
        at: When.
    """

    id: str
    digest: str
    first: int
    count: int
    at: float
    ids: tuple[int, ...] = ()
