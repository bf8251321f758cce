"""The process that does operations for a serving process: ``python -m estimator.worker``.

It reads requests from its standard input and writes answers to its standard output, both pickled frames that only its
parent speaks, one after the other, and ends when the input ends. It is niced: what serves goes before what computes.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from .errors import EstimatorError
from .frames import HEADER, Answer, pack
from .operation_functions import perform

NICENESS = 10


def main() -> None:
    """Serve until the parent closes its end, or is gone."""
    os.nice(NICENESS)
    incoming, outgoing = _private_pipes()
    requests: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(incoming, requests), daemon=True).start()
    while True:
        frame = pack(_answer(*requests.get()))
        outgoing.write(frame)
        outgoing.flush()


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, out of reach of code that prints or asks: a user's solver may do both."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


def _receive(incoming: BinaryIO, requests: SimpleQueue[Any]) -> None:
    """Hand on requests; end the process with the input, in the middle of a solve too: nobody waits for it any more.

    Stores write whole files or nothing, so that ending at any moment is as good as any other.
    """
    code = 1
    try:
        while len(header := incoming.read(HEADER.size)) == HEADER.size:
            requests.put(pickle.loads(incoming.read(HEADER.unpack(header)[0])))
        code = 0
    except Exception:  # noqa: BLE001 - half a request of a parent that died, say: a process that hears nobody must not stay
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def _answer(operation: str, place: Any, config: Any, arguments: Any) -> Answer:
    try:
        outcome = perform(operation, place, config, arguments)
        return "done", outcome.body, outcome.media
    except EstimatorError as error:
        return "refused", type(error).__name__, str(error)
    except Exception as error:  # noqa: BLE001 - whatever a user's class raises: this call fails, the next one may not
        traceback.print_exc(file=sys.stderr)
        return "failed", "", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
