"""Files of an agent as ``/files/*`` and the v1 calls LIST_FILES and READ_FILE show them: paths, pages, odd bytes."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from .answers import Answer, bad_request, not_found

PAGE = 65536
"""Bytes in one answer at most, whatever is asked for."""

PIECE = 256 * 1024

VIRTUAL = re.compile(r"^(?P<root>/.+?/slaves/[^/]+)?/frameworks/(?P<framework>[^/]+)/executors/(?P<executor>[^/]+)")
RUN = re.compile(VIRTUAL.pattern + r"/runs/(?P<run>[^/]+)(?P<rest>/.*)?$", re.DOTALL)

ESCAPES = {byte: b"\\u%04X" % byte for byte in range(32)} | {
    ord('"'): b'\\"',
    ord("\\"): b"\\\\",
    ord("\b"): b"\\b",
    ord("\f"): b"\\f",
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
}
SPECIAL = re.compile(rb'[\x00-\x1f"\\]')


class Download(Answer):
    """A file, sent in pieces as fast as the client takes them."""

    def __init__(self, path: Path, name: str) -> None:
        disposition = ("Content-Disposition", f"attachment; filename={name}")
        super().__init__(200, b"", "application/octet-stream", (disposition,))
        self._path = path
        self._size = path.stat().st_size

    def head(self) -> bytes:
        return super().head().replace(b"Content-Length: 0", b"Content-Length: %d" % self._size)

    async def prepare(self, request: web.BaseRequest) -> None:
        await super().prepare(request)
        with self._path.open("rb") as file:
            left = self._size
            while left > 0 and (data := file.read(min(left, PIECE))) and request.transport is not None:
                left -= len(data)
                request.transport.write(data)
                await request.protocol._drain_helper()


class Refusal(Exception):
    """A path or a number that cannot be served."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.answer = Answer(status, text.encode(errors="surrogateescape"), "text/plain; charset=utf-8")


class Found(NamedTuple):
    """Where a path leads, and how it was asked for."""

    path: Path
    asked: str


Locate = Callable[[str | None, str, str, str], Path | None]
"""(root before ``/frameworks`` or None, framework, executor, run or "latest") to the sandbox's directory."""


def bytes_as_json(data: bytes) -> bytes:
    """A JSON string of raw bytes: what is no UTF-8 goes out as it is, as an agent does it."""
    return b'"' + SPECIAL.sub(lambda found: ESCAPES[found[0][0]], data) + b'"'


class Files:
    """The files of one agent below its sandboxes."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate

    def find(self, asked: str | None) -> Found:
        """What is there.

        Raises:
            Refusal: Nothing (404 with an empty body), or something outside of the sandbox.
        """
        if not asked:
            raise Refusal(400, "Expecting 'path=value' in query.\n")
        matched = RUN.match(asked.rstrip("/"))
        if not matched:
            raise Refusal(404)
        sandbox = self._locate(matched["root"], matched["framework"], matched["executor"], matched["run"])
        if sandbox is None:
            raise Refusal(404)
        return Found(self._inside(sandbox, matched["rest"] or "", asked), asked.rstrip("/"))

    def _inside(self, sandbox: Path, rest: str, asked: str) -> Path:
        path = Path(os.path.realpath(f"{sandbox}{rest}"))
        if not path.exists():
            raise Refusal(404)
        if not path.is_relative_to(os.path.realpath(sandbox)):
            raise Refusal(400, f"'{asked}' is inaccessible.\n")
        return path

    def read(self, query: Mapping[str, str]) -> Answer:
        """GET /files/read."""
        try:
            found = self.find(query.get("path"))
            offset, length = number("offset", query.get("offset")), number("length", query.get("length"))
            return self._read(found, offset, length)
        except Refusal as refusal:
            return refusal.answer

    def _read(self, found: Found, offset: int, length: int) -> Answer:
        if offset < -1:
            raise Refusal(400, f"Negative offset provided: {offset}.\n")
        if length < -1:
            raise Refusal(400, f"Negative length provided: {length}.\n")
        size, data = page(found.path, offset, length)
        told = size if offset == -1 else offset
        return Answer(200, b'{"data":' + bytes_as_json(data) + b',"offset":%d}' % told)

    def browse(self, query: Mapping[str, str]) -> Answer:
        """GET /files/browse."""
        try:
            found = self.find(query.get("path"))
        except Refusal as refusal:
            return refusal.answer
        return Answer(200, to_json([entry(name, status) for name, status in listing(found)]))

    def download(self, query: Mapping[str, str]) -> Answer:
        """GET /files/download."""
        try:
            found = self.find(query.get("path"))
        except Refusal as refusal:
            return not_found() if refusal.status == 404 else refusal.answer
        if found.path.is_dir():
            return bad_request("Cannot download a directory.\n")
        name = quote(found.asked.rpartition("/")[2], safe=" ~!@#$%^&()-_=+[]{};',.")
        return Download(found.path, name)

    def read_call(self, call: Mapping[str, Any]) -> Answer:
        """POST /api/v1 READ_FILE: base64, and the size."""
        try:
            found = self.find(call.get("path"))
            size, data = page(found.path, int(call.get("offset", 0)), int(call.get("length", -1)))
        except Refusal as refusal:
            return refusal.answer
        told = {"size": size, "data": base64.b64encode(data).decode()}
        return Answer(200, to_json({"type": "READ_FILE", "read_file": told}))

    def list_call(self, call: Mapping[str, Any]) -> Answer:
        """POST /api/v1 LIST_FILES."""
        try:
            found = self.find(call.get("path"))
        except Refusal as refusal:
            return refusal.answer
        infos = [info(name, status) for name, status in listing(found)]
        return Answer(200, to_json({"type": "LIST_FILES", "list_files": {"file_infos": infos} if infos else {}}))


def number(name: str, text: str | None) -> int:
    """A number of a query; -1 if there is none."""
    if text is None:
        return -1
    try:
        return int(text)
    except ValueError:
        raise Refusal(400, f"Failed to parse {name}: Failed to convert '{text}' to number.\n") from None


def page(path: Path, offset: int, length: int) -> tuple[int, bytes]:
    """Size of a file, and what is asked of it: nothing for offset -1, a page at most."""
    if path.is_dir():
        raise Refusal(400, "Cannot read a directory.\n")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if offset == -1 or offset >= size:
            return size, b""
        file.seek(offset)
        return size, file.read(PAGE if length < 0 else min(length, PAGE))


def listing(found: Found) -> list[tuple[str, os.stat_result]]:
    """Names as asked for and what is there, sorted; nothing for a file."""
    if not found.path.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(found.path))
    there = [(name, found.path / name) for name in names]
    return [(f"{found.asked}/{name}", path.stat()) for name, path in there if path.exists()]


def entry(path: str, status: os.stat_result) -> dict[str, Any]:
    """A file as /files/browse lists it."""
    return {
        "gid": group_name(status.st_gid),
        "mode": stat.filemode(status.st_mode),
        "mtime": float(int(status.st_mtime)),
        "nlink": status.st_nlink,
        "path": path,
        "size": status.st_size,
        "uid": user_name(status.st_uid),
    }


def info(path: str, status: os.stat_result) -> dict[str, Any]:
    """A file as LIST_FILES lists it."""
    return {
        "path": path,
        "nlink": status.st_nlink,
        "size": status.st_size,
        "mtime": {"nanoseconds": int(status.st_mtime) * 1_000_000_000},
        "mode": status.st_mode,
        "uid": user_name(status.st_uid),
        "gid": group_name(status.st_gid),
    }


def user_name(uid: int) -> str:
    """Its name, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Its name, or its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def to_json(value: object) -> bytes:
    """As Mesos writes it: no spaces, no escapes but those JSON demands."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape")
