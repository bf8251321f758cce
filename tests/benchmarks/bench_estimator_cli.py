"""``retz-estimator`` on the nine-run sample as whole processes. Prints one JSON object."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9


def main() -> None:
    """The first prediction of a history, which has to be solved, and a picture of it."""
    program = str(Path(sys.executable).with_name("retz-estimator"))
    with tempfile.TemporaryDirectory() as name:
        log, store = Path(name) / "tpch.log", Path(name) / "store"
        base = [program, "--store", str(store)]
        log.write_bytes(subprocess.run([*base, "sample"], check=True, stdout=subprocess.PIPE).stdout)
        subprocess.run([*base, "parse", str(log)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        picture = ["plot", "tpch_q12", "-o", str(Path(name) / "skyline.png")]
        commands = {"predict_s": ["predict", "tpch_q12", "--alpha"], "plot_s": [*picture, "--alpha"]}
        taken: dict[str, list[float]] = {key: [] for key in commands}
        for turn in range(ROUNDS):
            for key, command in commands.items():
                # Another alpha each time: a prediction that is stored already would be no work.
                whole = [*base, *command, str(0.01 + turn / 1000)]
                began = time.perf_counter()
                subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                taken[key].append(time.perf_counter() - began)
    print(json.dumps({key: round(statistics.median(values), 3) for key, values in taken.items()}))


if __name__ == "__main__":
    main()
