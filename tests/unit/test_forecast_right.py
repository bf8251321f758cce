"""A small part of the benchmark of forecasts: nearer to the truth than the baseline, and honest about how near."""

from __future__ import annotations

import statistics

from tests.benchmarks.bench_forecast import compared


def test_jobs_of_pipelines_are_foretold_better_than_by_their_users_last_two_jobs() -> None:
    found = compared(1, "fair", 8)
    for name in ("pipeline_start", "pipeline_end"):
        errors = found[name]
        assert len(errors.ours) > 60
        assert statistics.median(errors.ours) < 0.8 * statistics.median(errors.baseline)
        assert 0.8 < sum(errors.within) / len(errors.within) < 0.99
