"""Run a program and collect the orphans it leaves, until the last one has ended: ``reaper.py PROGRAM [ARGS]``.

So every process of a queue stays below one that the benchmark knows, whatever the queue does with its children.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the program; return when nothing is left."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    subprocess.Popen(sys.argv[1:])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
