"""``retz-estimator sample``: something to try things with."""

from __future__ import annotations

import click


@click.command("sample")
@click.option(
    "-f", "--format", "form", type=click.Choice(["native", "rm"]), default="native", show_default=True,
    help="As the log of YARN's ResourceManager, for rm: a small pipeline of its own.",
)  # fmt: skip
def sample_command(form: str) -> None:
    """Print a log of nine runs to try things with.

    \b
    retz-estimator sample > tpch.log
    retz-estimator parse tpch.log
    retz-estimator plot tpch_q12
    """
    if form == "native":
        from ..sample import tpch_q12

        lines = tpch_q12()
    else:
        from ..sample import resource_manager_log

        lines = [line.text for line in resource_manager_log(9, pipelines=1)]
    for line in lines:
        print(line)
