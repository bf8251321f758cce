"""Starts the launcher: ``python -I -S .../retz/engine/local DIRECTORY READY_FD LINGER_S``, run by its path.

Apart from the rest, because Python compiles what it runs at every start, but keeps what it imports.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Isolated mode knows nothing but the standard library.
    sys.path.append(__file__.rsplit("/", 4)[0])
    from retz.engine.local.takeover import main

    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
