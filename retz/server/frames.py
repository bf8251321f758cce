"""What the server and its workers send each other: four bytes of length, then MessagePack."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

HEADER = 4

_encode = msgspec.msgpack.Encoder().encode


def frame(message: Any) -> bytes:
    """The bytes of a message on the wire."""
    body = _encode(message)
    return len(body).to_bytes(HEADER, "big") + body


def read(reading: BinaryIO) -> bytes | None:
    """The next message, without its length; None when nothing comes any more, or only a part of one."""
    header = reading.read(HEADER)
    if len(header) < HEADER:
        return None
    size = int.from_bytes(header, "big")
    body = reading.read(size)
    return body if len(body) == size else None
