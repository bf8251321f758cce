"""Where files to fetch come from: paths of this machine, and web servers."""

from __future__ import annotations

import base64
import os
import ssl
import stat
import urllib.error
import urllib.request
from http.client import HTTPResponse
from urllib.parse import unquote, urlsplit

from .unpack import CHUNK, FetchError
from .uris import unfetchable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, BinaryIO

    Marks = dict[str, Any]

STALLED_S = 60.0
"""A server that says nothing for so long has failed."""
_MODE = 0o644
_MODES = 0o755


class Source:
    """An open file to fetch.

    Attributes:
        size: In bytes, None if that is not known before the end.
        mode: For the copy.
        marks: What tells this version from another; empty if nothing does.
    """

    def __init__(self, stream: BinaryIO | HTTPResponse, size: int | None, mode: int, marks: Marks) -> None:
        self.stream, self.size, self.mode, self.marks = stream, size, mode, marks

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def open_uri(uri: str, known: Marks | None = None) -> Source | None:
    """Open what a URI names; None if it is still the version with the marks ``known``.

    Raises:
        FetchError: what it names cannot be fetched.
        OSError: it cannot be opened.
    """
    why = unfetchable(uri)
    if why is not None:
        raise FetchError(why)
    if uri.startswith("/"):
        return _open_path(uri, known)
    parts = urlsplit(uri)
    return _open_path(unquote(parts.path), known) if parts.scheme == "file" else _open_web(uri, known)


def save(source: Source, file: IO[bytes], most: int) -> int:
    """Copy a source to a file, whole. Returns its size in bytes.

    Raises:
        FetchError: it is larger than ``most``, or ended early.
    """
    total = 0
    if source.size is not None and source.size > most:
        raise FetchError(f"it has {source.size >> 20} MiB, the limit is {most >> 20} (retz.fetch.max-size)")
    while chunk := source.stream.read(CHUNK):
        total += len(chunk)
        if total > most:
            raise FetchError(f"it is larger than {most >> 20} MiB (retz.fetch.max-size)")
        file.write(chunk)
    if source.size is not None and total != source.size:
        raise FetchError(f"{total} bytes came, not the {source.size} that were announced")
    return total


def name_of(uri: str) -> str:
    """Return the name of the file in the sandbox.

    Raises:
        FetchError: the URI ends in none.
    """
    path = uri if uri.startswith("/") else unquote(urlsplit(uri).path)
    name = path.rpartition("/")[2]
    if name in ("", ".", "..") or "\0" in name:
        raise FetchError("it does not end in the name of a file")
    return name


def shown(uri: str) -> str:
    """Return a URI for people: without a password, without signs that cannot be seen."""
    if not uri.startswith("/") and "@" in uri:
        scheme, separator, rest = uri.partition("://")
        host, slash, path = rest.partition("/")
        uri = f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
    return "".join(c if c.isprintable() else "?" for c in uri[:300])


def _open_path(path: str, known: Marks | None) -> Source | None:
    # Without waiting: a pipe would keep us until somebody writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FetchError("it is not a plain file")
    except BaseException:
        os.close(fd)
        raise
    marks = {"size": status.st_size, "mtime": status.st_mtime_ns, "inode": status.st_ino}
    if marks == known:
        os.close(fd)
        return None
    return Source(open(fd, "rb"), status.st_size, status.st_mode & _MODES | 0o600, marks)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To the web only, and never from a safe connection to an open one."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise FetchError(f"the server sends us on to {shown(newurl)}, where we do not follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open_web(uri: str, known: Marks | None) -> Source | None:
    request = _request(uri, known or {})
    try:
        answer = _opener().open(request, timeout=STALLED_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and known:
                return None
            raise FetchError(f"the server answers {error.code} {error.reason}") from None
    marks = {mark: answer.headers[header] for mark, header in _MARKS.items() if answer.headers[header]}
    length = answer.headers["Content-Length"]
    return Source(answer, int(length) if length else None, _MODE, marks)


_MARKS = {"etag": "ETag", "modified": "Last-Modified"}


def _request(uri: str, known: Marks) -> urllib.request.Request:
    parts = urlsplit(uri)
    credentials, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl())
    request.add_header("User-Agent", "retz")
    request.add_header("Accept-Encoding", "identity")
    if at:  # for this server only, not for those that it sends us on to
        token = base64.b64encode(unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    if "etag" in known:
        request.add_header("If-None-Match", known["etag"])
    elif "modified" in known:
        request.add_header("If-Modified-Since", known["modified"])
    return request


def _opener() -> urllib.request.OpenerDirector:
    """Like the usual one, but for the web only: no ``file:`` or ``ftp:`` by way of a redirection."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
