"""``retz-estimator sample``: something to try things with."""

from __future__ import annotations

import click


@click.command("sample")
def sample_command() -> None:
    """Print a log of nine runs to try things with.

    \b
    retz-estimator sample > tpch.log
    retz-estimator parse tpch.log
    retz-estimator plot tpch_q12
    """
    from ..sample import tpch_q12

    for line in tpch_q12():
        print(line)
