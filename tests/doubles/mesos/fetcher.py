"""The fetcher of an agent: brings the URIs of a command into its sandbox."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .model import Json

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TIMEOUT_S = 30.0


class FetchError(Exception):
    """A URI could not be fetched."""


def fetch(uris: Iterable[Json], sandbox: Path, cache: Path) -> None:
    """Copy, download and unpack; ``cache`` is where URIs marked so are kept.

    Raises:
        FetchError: With the reason, as a line of the task's stderr.
    """
    for uri in uris:
        try:
            _fetch_one(uri, sandbox, cache)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
            raise FetchError(f"Failed to fetch '{uri['value']}': {error}") from error


def _fetch_one(uri: Json, sandbox: Path, cache: Path) -> None:
    value = str(uri["value"])
    target = sandbox / (uri.get("output_file") or Path(unquote(urlsplit(value).path)).name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if uri.get("cache"):
        _copy(_cached(value, cache), target)
    else:
        _obtain(value, target)
    if uri.get("executable"):
        target.chmod(target.stat().st_mode | 0o111)
    elif uri.get("extract", True):
        _unpack(target, sandbox)


def _cached(value: str, cache: Path) -> Path:
    kept = cache / hashlib.sha256(value.encode()).hexdigest()
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _obtain(value, kept)
    return kept


def _obtain(value: str, target: Path) -> None:
    parts = urlsplit(value)
    if parts.scheme in ("http", "https", "ftp"):
        with urllib.request.urlopen(value, timeout=TIMEOUT_S) as answer, open(target, "wb") as file:
            shutil.copyfileobj(answer, file)
    elif parts.scheme in ("", "file"):
        _copy(Path(unquote(parts.path)), target)
    else:
        raise ValueError(f"unknown scheme '{parts.scheme}'")


def _copy(source: Path, target: Path) -> None:
    if not source.is_absolute():
        raise ValueError("a relative path needs --frameworks_home")
    shutil.copy(source, target)


def _unpack(path: Path, sandbox: Path) -> None:
    if path.name.endswith(TARS):
        with tarfile.open(path) as archive:
            archive.extractall(sandbox, filter="data")
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive_zip:
            archive_zip.extractall(sandbox)
