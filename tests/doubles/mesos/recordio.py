"""RecordIO, the framing of event streams: the length of a record in decimal, a newline, the record."""

from __future__ import annotations

from collections.abc import Iterator


def chunk(record: bytes) -> bytes:
    """A record as one chunk of a chunked HTTP body."""
    framed = b"%d\n%s" % (len(record), record)
    return b"%x\r\n%s\r\n" % (len(framed), framed)


LAST_CHUNK = b"0\r\n\r\n"


class Records:
    """Takes the bytes of a body (chunking undone) in pieces of any size, and gives the records that are complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; yields what is complete now."""
        self._rest += data
        while True:
            length, newline, rest = self._rest.partition(b"\n")
            if not newline or len(rest) < int(length):
                return
            self._rest = rest[int(length) :]
            yield rest[: int(length)]
