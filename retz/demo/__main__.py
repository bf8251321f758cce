"""``python -m retz.demo``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .learning import Pipeline
from .place import Place, say
from .queue import Workload


def main() -> int:
    """Run the demo in a temporary directory and leave nothing behind but the picture."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="retz-demo-"))
    place = Place(home)
    try:
        good = Workload(place).tell()
        good = Pipeline(place).tell() and good
    finally:
        place.end_server(signal.SIGTERM)
        shutil.rmtree(home, ignore_errors=True)
    say(f"{'Every job ended as it should' if good else 'NOT as expected'}, {time.monotonic() - began:.1f} s.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
