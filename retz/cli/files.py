"""``retz get-file`` and ``list-files``: what jobs leave behind."""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import click

from retz.client import calls
from retz.client.errors import ConnectionLost
from retz.client.retry import Backoff
from retz.client.transport import Stream

from .app import App
from .errors import CliError
from .output import Column, is_terminal, note, print_json, print_table, to_seconds
from .parameters import Duration, ids_option, json_option, one_id
from .waiting import Progress

PROGRESS_BYTES = 4 << 20
"""Below this a download is over before a progress line would be read."""


@click.command("get-file")
@ids_option
@click.option("--path", default="stdout", show_default=True, help="Which file of the sandbox.")
@click.option("-R", "--resultdir", default="-", metavar="DIR", help="Write it into this directory; - is stdout.")
@click.option("--poll", "-f", "--follow", "poll", is_flag=True, help="Go on as it grows, until the job has ended.")
@click.option("--offset", type=click.IntRange(0), default=0, metavar="BYTES", help="Begin here.")
@click.option("--length", type=int, default=-1, metavar="BYTES", help="At most so much; -1 is all.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Of this attempt [default: the latest].")
@click.option("--binary", is_flag=True, help="Accepted for Retz's sake: bytes are never changed.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="Stop following after: 30 (minutes), 90s.")
@json_option
@click.pass_obj
def get_file_command(
    app: App, /, ids: Any, id_option: Any, path: str, resultdir: str, poll: bool, offset: int, length: int,
    attempt: int | None, binary: bool, timeout: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Print, follow or download a file of a job, its output for instance.

    --json needs -R, and tells what was written.
    """
    if as_json and resultdir == "-":
        raise click.UsageError("--json needs -R DIR: the file itself would be mixed with it")
    if poll and (length >= 0 or attempt is not None):
        raise click.UsageError("--poll follows the latest attempt to its end: leave out --length and --attempt")
    number = app.resolve((one_id(ids, id_option),))[0]
    target = None if resultdir == "-" else Path(resultdir) / Path(path).name
    with _opened(target) as out:
        if poll:
            size = _follow(app, number, path, offset, timeout, out)
        else:
            size = _download(app, number, path, offset, None if length < 0 else length, attempt, out)
    if as_json:
        print_json("get-file", id=number, path=path, file=str(target), bytes=size)
    elif target is not None:
        note(f"{target}: {size} bytes")


class _Expired(Exception):
    """The time for following is over."""


def _opened(target: Path | None) -> Any:
    if target is None:
        return nullcontext(sys.stdout.buffer)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("wb")
    except OSError as error:
        raise CliError(f"{target}: cannot be written: {error.strerror}") from error


def _follow(app: App, number: int, path: str, offset: int, timeout: float | None, out: IO[bytes]) -> int:
    current: list[Stream | None] = [None]
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        if current[0] is not None:
            current[0].close()

    def opened(stream: Stream | None) -> None:
        current[0] = stream

    def lost(_error: Exception) -> None:
        if expired.is_set():
            raise _Expired

    timer = threading.Timer(timeout, stop) if timeout else None
    size = 0
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        for data in app.transport.follow(number, path, offset, on_stream=opened, on_lost=lost):
            out.write(data)
            out.flush()
            size += len(data)
    except _Expired:
        note("retz: stopped following; the job goes on")
    finally:
        if timer is not None:
            timer.cancel()
    return size


def _download(
    app: App, number: int, path: str, offset: int, length: int | None, attempt: int | None, out: IO[bytes]
) -> int:
    """Copy a range; after a broken connection go on from the byte it had."""
    backoff = Backoff(app.config.server_retry)
    done = 0
    if length == 0:
        return 0
    # On a terminal that shows the file itself a progress line would be in its way.
    with _Lazy(shown=out is not sys.stdout.buffer or not is_terminal(sys.stdout)) as progress:
        while True:
            rest = None if length is None else length - done
            call = calls.file(number, path, attempt=attempt, offset=offset + done, length=rest)
            try:
                with app.transport.stream(call, app.config.server_timeout) as stream:
                    for data in stream:
                        out.write(data)
                        done += len(data)
                        progress.advance(len(data), done, stream.length)
                return done
            except ConnectionLost as error:
                delay = backoff.delay_after(error, call)
                if delay is None:
                    raise
                threading.Event().wait(delay)


class _Lazy:
    """A progress line that appears only for files worth one."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._progress: Progress | None = None

    def __enter__(self) -> _Lazy:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.__exit__()

    def advance(self, count: int, done: int, total: int | None) -> None:
        if self._progress is None and self._shown and (total or 0) > PROGRESS_BYTES:
            self._progress = Progress("bytes", total or 0)
            count = done
        if self._progress is not None:
            self._progress.advance(count)


@click.command("list-files")
@ids_option
@click.option("--path", default="", help="A directory of the sandbox.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Of this attempt [default: the latest].")
@json_option
@click.pass_obj
def list_files_command(app: App, /, ids: Any, id_option: Any, path: str, attempt: int | None, as_json: bool) -> None:
    """List the files of a job."""
    answer = app.call(calls.files(one_id(ids, id_option), path, attempt))
    if as_json:
        print_json("list-files", **answer)
        return
    columns = [
        Column("MODE", drop=3),
        Column("UID", drop=2),
        Column("GID", drop=1),
        Column("SIZE", True),
        Column("MODIFIED", drop=4),
        Column("PATH", flexible=True, least=24),
    ]
    rows = [
        [e["mode"], str(e["uid"]), str(e["gid"]), str(e["size"]), to_seconds(e["mtime"]), e["path"]]
        for e in answer["entries"]
    ]
    print_table(columns, rows)
