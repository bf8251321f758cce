"""``make bench``: every figure that has a target, measured and set beside it. Exit code 0 whatever comes out.

Figures depend on the machine; run it on a quiet one, and compare ratios. Single benchmarks print more:
``python -m tests.benchmarks.bench_store`` (and ``_query``, ``_scheduler``, ``_local``, ``_server``, ``_mesos``,
``_core``, ``_cli``, ``_sizing``, ``_why``, ``_estimator_solver``, ``_estimator_parse``, ``_estimator_cli``).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

TARGETS = (
    ("submits_per_s", ">=", 8_000, "durable submits/s, 16 connections, signed"),
    ("submits_per_s_fsync_5ms", ">=", 2_000, "the same, fsync 5 ms longer"),
    ("bulk_jobs_per_s", ">=", 80_000, "durable bulk submit, jobs/s"),
    ("neighbour_max_ms", "<=", 10, "longest wait of a neighbour's ping meanwhile, ms"),
    ("ratio_to_xargs", ">=", 0.6, "1 000 x true, end to end, against xargs -P2"),
    ("null_jobs_per_s", ">=", 10_000, "jobs/s through the null engine, durable, 64 slots"),
    ("submit_to_started_p50_ms", "<=", 4, "submit to process started, idle, median ms"),
    ("pass_ms_200_shapes", "<=", 5, "planning pass, 100 000 queued, 200 shapes, ms"),
    ("pass_ms_100000_shapes", "<=", 100, "planning pass, 100 000 shapes (in a thread), ms"),
    ("window_ms", "<=", 10, "list window with 100 000 queued, ms"),
    ("submit_full_to_empty", "<=", 1.0, "one more submit with 100 000 queued / with none"),
    ("rss_mb", "<=", 250, "server memory, 100 000 queued jobs of 600 bytes, MB"),
    ("start_s_100k_queued_1m_archived", "<=", 3, "start to first answer, s"),
    ("idle_cpu_percent", "<=", 0.5, "idle, per cent of a core"),
    ("idle_rss_mb", "<=", 80, "idle, server + launcher, MB"),
    ("version_ratio", "<=", 9, "retz --version against python -c pass"),
    ("list_ratio", "<=", 9, "retz list against python -c pass"),
    ("start_beyond_ms", "<=", 200, "retz-tui, 100 000 jobs: start to the list, beyond importing Textual, ms"),
    ("key_p95_ms_500_events", "<=", 50, "… key to repainted frame, p95, while 500 events/s arrive, ms"),
    ("page_down_ms", "<=", 100, "… page down, ms"),
    ("end_ms", "<=", 100, "… to the end of the list, ms"),
    ("sort_ms", "<=", 100, "… the list turned around, ms"),
    ("filter_ms", "<=", 100, "… filtered, ms"),
    ("memory_mb", "<=", 120, "… memory, MB"),
    ("cpu_percent_quiet", "<=", 1, "… quiet queue, per cent of a core"),
    ("cpu_percent_100_events", "<=", 15, "… 100 events/s, per cent of a core"),
    ("log_2gb_ms", "<=", 200, "… opening 2 GB of output at its end, ms"),
    ("kb_per_s_100_events", "<=", 100, "… to the terminal with 100 events/s, kB/s"),
    ("highs_100x100", ">=", 5, "FastSolver against HiGHS, 100 runs x 100 intervals"),
    ("highs_10x1000", ">=", 40, "the same, 10 x 1 000"),
    ("highs_100x1000", ">=", 100, "the same, 100 x 1 000 (HiGHS is stopped after 30 s: at least)"),
    ("solve_s_1000x10000", "<=", 10, "FastSolver, 1 000 x 10 000, one core, s"),
    ("solve_mb_1000x10000", "<=", 2_000, "its memory, MB"),
    ("one_more_run", ">=", 5, "one more run on 1 000 x 1 000, against from scratch"),
    ("native_lines_per_s", ">=", 300_000, "parsing the native format, lines/s"),
    ("rm_lines_per_s", ">=", 150_000, "parsing the ResourceManager's log, lines/s"),
    ("mesos_jobs_per_s", ">=", 500, "Mesos: tasks/s from queued to finished, durable, double on the same processors"),
    ("mesos_loop_held_cpu_max_ms", "<=", 10, "… the server's loop held meanwhile, ms it computed"),
    ("mesos_loop_held_max_ms", "<=", 10, "… the same by the clock, ms"),
    ("offer_to_launch_p50_ms", "<=", 50, "… offer -> launch, median ms"),
    ("offer_to_launch_p99_ms", "<=", 50, "… offer -> launch, p99 ms"),
    ("round_ms_200_shapes", "<=", 250, "… 5 000 offers planned, 100 000 run, 100 000 queued, 200 shapes, ms"),
    ("round_ms_1_shapes", "<=", 250, "… the same, one shape, ms"),
    ("mesos_server_mb", "<=", 700, "… 5 000 agents, 100 000 run, 100 000 queued: server memory, MB"),
    ("mesos_server_mb_after_restart", "<=", 700, "… the same after a restart, MB"),
    (
        "reconcile_driver_status_p99_ms",
        "<=",
        50,
        "… GET /status while 100 000 tasks are reconciled, driver killed, p99 ms",
    ),
    ("reconcile_restart_status_p99_ms", "<=", 50, "… the same, server killed, ms"),
    ("sizing_trend", "<=", 0.75, "--predicted, back-test: memory wasted, against the best other rule; needs that grow"),
    ("sizing_stages", "<=", 0.75, "… needs that change twice"),
    ("sizing_outliers", "<=", 0.75, "… one run in a hundred far above"),
    ("sizing_noise", "<=", 1.05, "… nothing but noise"),
    ("sizing_trend_killed", "<=", 2, "… runs killed, per cent: trend"),
    ("sizing_stages_killed", "<=", 2, "… stages"),
    ("sizing_outliers_killed", "<=", 2, "… outliers"),
    ("sizing_noise_killed", "<=", 2, "… noise"),
    ("sizing_weekly_killed", "<=", 2, "… every seventh run much larger"),
    ("sizing_weekend_killed", "<=", 2, "… two of every seven"),
    ("sizing_skipped_killed", "<=", 2, "… every seventh, but now and then a run is missing"),
    ("sizing_steady_killed", "<=", 2, "… always the same, nearly"),
    ("forecast_s_10000", "<=", 5, "forecast of the first 10 000 jobs, 8 futures, 100 agents, 500 shapes, fair, s"),
    ("forecast_million_s", "<=", 100, "forecast of 1 000 000 jobs, 1 000 agents, one future, one core, s"),
    ("forecast_million_mb", "<=", 1_500, "… its memory, MB"),
    (
        "eta_ratio_pipeline",
        "<=",
        0.8,
        "median error, pipeline jobs, against Tsafrir's; starts, ends, fair, fifo: worst",
    ),
    ("eta_ratio_other", "<=", 1.0, "… of other jobs"),
    ("eta_within_p90_least", ">=", 0.85, "… before their p90: the least of these eight parts"),
    ("eta_within_p90_most", "<=", 0.95, "… the most of them"),
    ("why_ms_100k", "<=", 20, "why with 100 000 queued, 500 shapes, 1 000 agents, client included, ms it computed"),
    ("look_holds_loop_ms", "<=", 10, "a look at what they wait for: loop held, ms it computed"),
    ("sampling_percent_of_core", "<=", 3, "1 000 jobs measured and watched every 5 s, launcher and all, % of a core"),
    ("predict_s", "<=", 1.2, "retz-estimator predict on the sample, whole process, s"),
)


HIGHS_LIMIT_S = 30


def run(module: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def fsync_ms(rounds: int = 200) -> float:
    """Median time of a small append's fdatasync where the benchmarks run."""
    taken = []
    with tempfile.TemporaryFile(dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp")) as file:
        for _ in range(rounds):
            os.write(file.fileno(), b"x" * 600)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def collect() -> dict[str, Any]:
    """All figures by name."""
    figures: dict[str, Any] = {}
    for line in run("bench_server").splitlines():
        figures.update(json.loads(line))
    figures["submit_full_to_empty"] = round(figures["submit_ms_full"] / figures["submit_ms_empty"], 2)
    for line in run("bench_mesos").splitlines():
        figures.update(json.loads(line))
    figures.update(json.loads(run("bench_cli")))
    figures.update(json.loads(run("bench_tui")))
    for each in json.loads(run("bench_scheduler"))["nothing_fits"]:
        name = f"pass_ms_{each['shapes']}_shapes"
        whole = each["prepare_ms"] + each["solve_ms"] + each["check_ms"]
        figures[name] = round(max(figures.get(name, 0.0), whole), 2)
    return figures


def forecasts() -> dict[str, Any]:
    """The forecast's figures by name."""
    right = json.loads(run("bench_forecast", "right"))["right"]
    parts = [(name, part) for planner in ("fair", "fifo") for name, part in right[planner].items()]
    speed = json.loads(run("bench_forecast", "speed"))["speed"]["cases"]
    return {
        "forecast_s_10000": speed[2]["seconds"],
        "eta_ratio_pipeline": max(part["ratio"] for name, part in parts if name.startswith("pipeline")),
        "eta_ratio_other": max(part["ratio"] for name, part in parts if name.startswith("other")),
        "eta_within_p90_least": min(part["within_p90"] for _, part in parts),
        "eta_within_p90_most": max(part["within_p90"] for _, part in parts),
        **json.loads(run("bench_forecast", "million"))["million"],
        **json.loads(run("bench_why")),
    }


def estimator() -> dict[str, Any]:
    """The estimator's figures by name."""
    solver = json.loads(run("bench_estimator_solver", str(HIGHS_LIMIT_S)))
    parsing = json.loads(run("bench_estimator_parse"))
    return {
        **{f"highs_{each['runs']}x{each['intervals']}": each["ratio"] for each in solver["against_highs"]},
        "solve_s_1000x10000": solver["largest"]["seconds"],
        "solve_mb_1000x10000": solver["largest"]["peak_mb"],
        "one_more_run": solver["one_more_run"]["ratio"],
        "native_lines_per_s": parsing["native"]["lines_per_s"],
        "rm_lines_per_s": parsing["resource_manager"]["lines_per_s"],
        **json.loads(run("bench_estimator_cli")),
        **json.loads(run("bench_sizing")),
    }


def main() -> None:
    """Measure, print a table."""
    python = platform.python_version()
    print(f"{platform.platform()}, Python {python}, {os.cpu_count()} cpus, fdatasync {fsync_ms():.2f} ms")
    figures = {**collect(), **forecasts(), **estimator()}
    for name, sign, target, text in TARGETS:
        value = figures[name]
        good = value >= target if sign == ">=" else value <= target
        print(f"{'ok  ' if good else 'MISS'} {value:>10} {sign} {target:<8} {text}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
