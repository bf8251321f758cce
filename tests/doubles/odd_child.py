"""A child process that behaves as its first message says: ``python -m tests.doubles.odd_child``.

The first message is a :class:`~retz.engine.mesos.wire.Connect`; its ``master`` names the behaviour.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import msgspec

from retz.engine.mesos.wire import Alive, Connect, Disconnected, Frames, Message, Stop, ToDriver, frame


def messages() -> Iterator[ToDriver]:
    """What the server says, until it is gone."""
    frames, decoder = Frames(), msgspec.msgpack.Decoder(ToDriver)
    while data := os.read(0, 65536):
        frames.feed(data)
        while (body := frames.next()) is not None:
            yield decoder.decode(body)


def say(*texts: str) -> None:
    """Tell the server."""
    out: list[Message] = [Disconnected(text) for text in texts]
    data = memoryview(frame([*out, Alive()]))
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """See the module's text."""
    said = messages()
    first = next(said)
    assert isinstance(first, Connect)
    match first.master.partition(" "):
        case "echo", _, _:
            for message in said:
                if isinstance(message, Stop):
                    say("bye")
                    return
                say(type(message).__name__)
        case "flood", _, count:
            say(*(str(number) for number in range(int(count))))
            next(said)
        case "die", _, _:
            say("last words")
            print("ERROR something is wrong", file=sys.stderr)
            sys.exit(3)
        case "garbage", _, _:
            os.write(1, frame([Alive()]) + b"\xff\xff\xff\xff and so on")
            next(said)
        case "nonsense", _, _:
            os.write(1, b"\0\0\0\1\xc1")
            next(said)
        case "silent", _, _:
            signal.pause()
        case "deaf", _, _:
            say("deaf")
            signal.pause()
        case "stubborn", _, _:
            for _ in said:
                say("no")
            signal.pause()


if __name__ == "__main__":
    main()
