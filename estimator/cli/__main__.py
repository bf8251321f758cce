"""``python -m estimator.cli``: the same as ``retz-estimator``."""

from . import main

main()
