"""The bodies of the Retz protocol, field by field and in Retz's own order. Old clients refuse any other field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

VERSION = "0.2.1"
"""Of the protocol; in every message, never compared."""

OldState = Literal["CREATED", "QUEUED", "STARTING", "STARTED", "FINISHED", "KILLED"]
Amount = Annotated[float, Meta(ge=0, le=1e12)]


class Quantity(Struct):
    """An amount of each resource, in whole numbers."""

    cpu: int
    mem: int = field(name="memMB")
    gpu: int
    ports: int
    disk: int = field(name="diskMB")
    nodes: int


class JobMessage(Struct, rename="camel"):
    """A job."""

    cmd: str
    scheduled: str | None
    started: str | None
    finished: str | None
    result: int
    id: int
    url: str | None
    reason: str | None
    retry: int
    priority: int
    appid: str
    name: str | None
    tags: tuple[str, ...]
    resources: Quantity
    attributes: str | None
    task_id: str | None
    slave_id: str | None
    state: OldState
    props: dict[str, str]


class VolumeMessage(Struct, rename="camel"):
    """A volume of a Docker container."""

    driver: str
    container_path: str
    mode: Literal["RO", "RW"]
    name: str
    options: dict[str, str]


class MesosMessage(Struct, tag_field="type", tag="mesos"):
    """No container."""


class DockerMessage(Struct, tag_field="type", tag="docker"):
    """A Docker image."""

    image: str
    volumes: list[VolumeMessage]


class ApplicationMessage(Struct, rename="camel"):
    """An application."""

    appid: str
    large_files: tuple[str, ...]
    files: tuple[str, ...]
    user: str | None
    owner: str
    grace_period: int
    container: MesosMessage | DockerMessage
    enabled: bool


class EntryMessage(Struct):
    """An entry of a directory."""

    gid: str
    mode: str
    mtime: int
    nlink: int
    path: str
    size: int
    uid: str


class FileMessage(Struct):
    """Part of a file, from byte ``offset``."""

    data: str
    offset: int


class ErrorAnswer(Struct, tag_field="command", tag="error"):
    """A refusal; ``status`` is the sentence."""

    status: str
    version: str = VERSION


class ListAnswer(Struct, tag_field="command", tag="list"):
    """Jobs; ``more``: there were more than fit."""

    jobs: Raw
    more: bool
    status: str = "ok"
    version: str = VERSION


class ScheduleAnswer(Struct, tag_field="command", tag="schedule"):
    """The job that was accepted."""

    job: JobMessage
    status: str = "ok"
    version: str = VERSION


class GetJobAnswer(Struct, tag_field="command", tag="get-job"):
    """The job; null if there is none of this id."""

    job: JobMessage | None
    status: str = "ok"
    version: str = VERSION


class KillAnswer(Struct, tag_field="command", tag="kill"):
    """The job is killed, or will be."""

    status: str = "ok"
    version: str = VERSION


class GetFileAnswer(Struct, tag_field="command", tag="get-file"):
    """Part of a file; null if it is not there, or not yet."""

    job: JobMessage | None
    file: FileMessage | None
    status: str = "ok"
    version: str = VERSION


class ListFilesAnswer(Struct, tag_field="command", tag="list-files"):
    """A directory."""

    job: JobMessage | None
    entries: list[EntryMessage]
    status: str = "ok"
    version: str = VERSION


class ListAppAnswer(Struct, rename="camel", tag_field="command", tag="list-app"):
    """One's own applications."""

    application_list: list[ApplicationMessage]
    status: str = "ok"
    version: str = VERSION


class LoadAppAnswer(Struct, tag_field="command", tag="load-app"):
    """The application is registered."""

    status: str = "ok"
    version: str = VERSION


class GetAppAnswer(Struct, tag_field="command", tag="get-app"):
    """An application."""

    application: ApplicationMessage
    status: str = "ok"
    version: str = VERSION


class UnloadAppAnswer(Struct, tag_field="command", tag="unload-app"):
    """The application is gone."""

    status: str = "ok"
    version: str = VERSION


class StatusAnswer(Struct, rename="camel", tag_field="command", tag="status"):
    """The server in a few numbers."""

    queue_length: int
    running_length: int
    total_used: Quantity
    num_slaves: int
    offers: int
    total_offered: Quantity
    master: str | None
    stanchion_queue_length: int
    server_version: str
    status: str = "ok"
    version: str = VERSION


class ListRequest(Struct, forbid_unknown_fields=True):
    """One's jobs in one state, with one tag if it is given."""

    command: Literal["list"]
    state: OldState
    tag: str | None = None
    version: str | None = None


class QuantityRequest(Struct, forbid_unknown_fields=True):
    """What a job asks for; what is absent is zero."""

    cpu: Amount | None = None
    mem: Amount | None = field(name="memMB", default=None)
    gpu: Amount | None = None
    ports: Amount | None = None
    disk: Amount | None = field(name="diskMB", default=None)
    nodes: Amount | None = None


class JobRequest(Struct, rename="camel", forbid_unknown_fields=True):
    """A job to be. What is ``Any`` is the server's to say: it may be sent, and is not read."""

    cmd: str
    appid: str | None
    resources: QuantityRequest
    id: Any
    state: OldState
    props: dict[str, str] | None = None
    env: dict[str, str] | None = None
    name: str | None = None
    tags: list[str] | None = None
    priority: int | None = None
    attributes: str | None = None
    scheduled: Any = None
    started: Any = None
    finished: Any = None
    result: Any = None
    url: Any = None
    reason: Any = None
    retry: Any = None
    task_id: Any = None
    slave_id: Any = None


class ScheduleRequest(Struct, forbid_unknown_fields=True):
    """A job to be."""

    command: Literal["schedule"]
    job: JobRequest
    version: str | None = None


class VolumeRequest(Struct, rename="camel", forbid_unknown_fields=True):
    """A volume of a Docker container."""

    driver: str
    container_path: str
    name: str
    mode: Literal["RO", "RW"] = "RW"
    options: dict[str, str] | None = None


class MesosRequest(Struct, tag_field="type", tag="mesos", forbid_unknown_fields=True):
    """No container."""


class DockerRequest(Struct, tag_field="type", tag="docker", forbid_unknown_fields=True):
    """A Docker image."""

    image: str
    volumes: list[VolumeRequest] | None = None


class ApplicationRequest(Struct, rename="camel", forbid_unknown_fields=True):
    """An application to be; without ``enabled`` it is disabled, as it was in Retz."""

    appid: str
    owner: str
    large_files: list[str] | None = None
    files: list[str] | None = None
    user: str | None = None
    grace_period: Annotated[int, Meta(le=1024)] | None = None
    container: MesosRequest | DockerRequest | None = None
    enabled: bool | None = None


class LoadAppRequest(Struct, forbid_unknown_fields=True):
    """An application to be."""

    command: Literal["load-app"]
    application: ApplicationRequest
    version: str | None = None


decode_list = msgspec.json.Decoder(ListRequest).decode
decode_schedule = msgspec.json.Decoder(ScheduleRequest).decode
decode_load_app = msgspec.json.Decoder(LoadAppRequest).decode
