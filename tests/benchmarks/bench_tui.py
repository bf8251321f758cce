"""What the terminal window costs with 100 000 live jobs: the real program in a pseudo-terminal. Prints JSON.

    python -m tests.benchmarks.bench_tui [FIGURE ...] [--jobs 100000]

Times end when the right text stands on the emulated screen, so they hold what the emulation costs, too (a
millisecond or two a frame), and, where only two cores are there, the server's share of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.acceptance.window import Window
from tests.benchmarks.bench_server import clean_up, server, set_mode, submit_many, wire
from tests.server_process import ServerProcess

COLUMNS, ROWS = 120, 40
ROUNDS = 15
QUIET_S, BUSY_S = 20.0, 20.0
IMPORT = "import textual.app, textual.screen, textual.widgets, textual.containers, textual.command"
LOG = """\
import os, time
os.ftruncate(1, 2 << 30)
os.lseek(1, 0, 2)
os.write(1, b"".join(b"line %d of the end\\n" % n for n in range(20000)))
time.sleep(600)
"""


@contextmanager
def window(running: ServerProcess, *words: str) -> Iterator[Window]:
    """The program, as a person has it."""
    shown = Window(running.environment, *words, columns=COLUMNS, rows=ROWS)
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def events(running: ServerProcess, rate: int) -> Iterator[None]:
    """As many events a second, twenty times a second: new jobs, which all show at the top of the list."""
    stop = threading.Event()
    connection = wire(running)

    def send() -> None:
        due = time.monotonic()
        while not stop.is_set():
            due += 0.05
            jobs = [{"command": "echo news", "name": "news"}] * (rate // 20)
            status, answer = connection.call("POST", "/api/v2/jobs", {"jobs": jobs})
            assert status == 201, answer
            stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        connection.close()


def ids(shown: Window) -> list[int]:
    """The ids in the list, from the top."""
    found = (re.match(r"[▌◆ ] +(\d+) [◌●◔✔✘■‖]", line) for line in shown.screen.lines)
    return [int(match.group(1)) for match in found if match]


def selected(shown: Window) -> int:
    """The id with the cursor; 0 while there is none."""
    found = (re.match(r"▌ *(\d+) ", line) for line in shown.screen.lines)
    return next((int(match.group(1)) for match in found if match), 0)


def took_ms(shown: Window, keys: str, done: Callable[[], object], what: str) -> float:
    """From a key to the frame that it should lead to."""
    began = time.perf_counter()
    shown.press(keys)
    shown.until(lambda _: done(), what)
    return (time.perf_counter() - began) * 1e3


def ready(shown: Window, rows: int = 20) -> None:
    """Return when the list is full and nothing more is drawn."""
    shown.until(lambda text: "● live" in text and len(ids(shown)) >= rows, "the list")
    settle(shown)


def settle(shown: Window) -> None:
    """Return when only clocks are drawn any more."""
    while shown.read(0.3) > 1_500:
        continue


def process_s(command: str) -> float:
    """Seconds of a whole Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", command], check=True)
    return time.perf_counter() - began


def start(running: ServerProcess) -> dict[str, Any]:
    """From the start of the process to a list of jobs, beyond a process that only imports Textual."""
    whole, bare = [], []
    for _ in range(7):
        bare.append(process_s(IMPORT))
        began = time.perf_counter()
        with window(running) as shown:
            shown.until(lambda _: len(ids(shown)) >= 20, "the list")
            whole.append(time.perf_counter() - began)
    total, without = statistics.median(whole) * 1e3, statistics.median(bare) * 1e3
    return {"start_ms": round(total), "import_textual_ms": round(without), "start_beyond_ms": round(total - without)}


def keys(running: ServerProcess) -> dict[str, Any]:
    """From a key to the frame with the moved cursor, while 500 events a second arrive."""
    taken = []
    with window(running) as shown:
        ready(shown)
        with events(running, 500):
            shown.read(1.0)
            for number in range(120):
                before = selected(shown)
                key = "j" if number // 15 % 2 == 0 else "k"
                if key == "k" and before == max(ids(shown)):
                    continue
                taken.append(took_ms(shown, key, lambda: selected(shown) not in (0, before), "the cursor"))  # noqa: B023
                shown.read(0.03)
    taken.sort()
    return {
        "key_p50_ms_500_events": round(statistics.median(taken), 1),
        "key_p95_ms_500_events": round(taken[int(len(taken) * 0.95)], 1),
        "key_max_ms_500_events": round(taken[-1], 1),
    }


def moves(running: ServerProcess) -> dict[str, Any]:
    """Page down, end, reversed, filtered: to the right rows, all of them, with nothing else going on."""
    found: dict[str, list[float]] = {name: [] for name in ("page_down_ms", "end_ms", "sort_ms", "filter_ms")}
    with window(running) as shown:
        ready(shown)
        top = ids(shown)
        height = len(top)
        end = list(range(height, 0, -1))

        def page() -> bool:
            return selected(shown) == top[0] - 2 * (height - 1) == ids(shown)[-1] and len(ids(shown)) == height

        for _ in range(ROUNDS):
            shown.press("\x1b[6~")
            shown.until(lambda _: selected(shown) == top[-1], "the cursor to be at the bottom")
            found["page_down_ms"].append(took_ms(shown, "\x1b[6~", page, "the next page"))
            found["end_ms"].append(took_ms(shown, "G", lambda: ids(shown) == end, "the end"))
            took_ms(shown, "g", lambda: ids(shown) == top, "the start")
            found["sort_ms"].append(took_ms(shown, "S", lambda: ids(shown) == end[::-1], "the list reversed"))
            took_ms(shown, "S", lambda: ids(shown) == top, "the list as it was")
            shown.press("/cpu>=1.19")
            shown.until(lambda _: ids(shown) != top and "1.19" in shown.screen.lines[2], "the first letters")
            settle(shown)
            found["filter_ms"].append(
                took_ms(shown, "99", lambda: "  0 jobs" in shown.screen.lines[2] and not ids(shown), "no job")
            )
            shown.press("\x15")
            shown.until(lambda _: ids(shown) == top, "all of them")
            shown.press("\r")
            shown.until(lambda _: "open" in shown.screen.lines[-1], "the list")
            settle(shown)
    return {name: round(statistics.median(times), 1) for name, times in found.items()}


def _share(shown: Window, seconds: float) -> tuple[float, float]:
    """Per cent of a core and bytes a second of the program over a time."""
    process = psutil.Process(shown.process.pid)
    shown.read(0.2)
    before, written, began = sum(process.cpu_times()[:2]), len(shown.raw), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        shown.read(min(left, 0.5))
    passed = time.monotonic() - began
    return (sum(process.cpu_times()[:2]) - before) / passed * 100, (len(shown.raw) - written) / passed


def upkeep(running: ServerProcess) -> dict[str, Any]:
    """Memory; processor and bytes with a quiet queue and with 100 events a second."""
    with window(running) as shown:
        ready(shown)
        shown.read(2.0)
        quiet, quiet_bytes = _share(shown, QUIET_S)
        with events(running, 100):
            shown.read(2.0)
            busy, busy_bytes = _share(shown, BUSY_S)
        memory = psutil.Process(shown.process.pid).memory_info().rss
    return {
        "memory_mb": round(memory / 1e6),
        "cpu_percent_quiet": round(quiet, 2),
        "cpu_percent_100_events": round(busy, 1),
        "kb_per_s_quiet": round(quiet_bytes / 1e3, 1),
        "kb_per_s_100_events": round(busy_bytes / 1e3, 1),
    }


def big_log() -> dict[str, Any]:
    """From enter on a job to the last line of its 2 GB of output."""
    taken = []
    with server("local") as running:
        submit_many(running, 1, lambda _: {"command": [sys.executable, "-c", LOG], "name": "long-log"})
        with window(running) as shown:
            shown.until(lambda text: "● started" in text, "the job")
            shown.read(2.0)
            for _ in range(7):
                taken.append(
                    took_ms(shown, "\r", lambda: "line 19999 of the end" in shown.screen.text, "the end of the log")
                )
                shown.press("\x1b")
                shown.until(lambda text: "line 19999 of the end" not in text, "the queue")
    return {"log_2gb_ms": round(statistics.median(taken), 1), "log_2gb_first_ms": round(taken[0], 1)}


FIGURES = {"start": start, "keys": keys, "moves": moves, "upkeep": upkeep}


def main() -> None:
    """Measure all, or what is named."""
    parser = argparse.ArgumentParser(description="Measure the terminal window; prints JSON.")
    parser.add_argument("figures", nargs="*", default=[*FIGURES, "big_log"])
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if any(name in FIGURES for name in options.figures):
        with server() as running:
            set_mode(running, "paused")
            submit_many(
                running,
                options.jobs,
                lambda n: {
                    "command": f"python work.py {n}",
                    "name": f"job-{n}",
                    "resources": {"cpus": 1 + n % 200 / 1000},
                },
            )
            for name in options.figures:
                if name in FIGURES:
                    figures |= FIGURES[name](running)
    if "big_log" in options.figures:
        figures |= big_log()
    clean_up()
    print(json.dumps({"cores": os.cpu_count(), "jobs": options.jobs, **figures}))


if __name__ == "__main__":
    main()
