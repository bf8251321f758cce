"""What can be done with a store, by name: the operations that a serving process has done by its workers.

This module is read in serving processes, so it imports nothing of numpy; the operations themselves are in
:mod:`estimator.operation_functions`, which only workers load.

All operations take keyword arguments; those with a default may be left out:

=================== =============================================================== ===========================
operation           arguments                                                       body
=================== =============================================================== ===========================
history             pipeline, run (``*``: see ``SkylineStore.get_history``)         Hadoop's map, ``{}``, ``null``
estimation          pipeline                                                        the stored skyline or ``null``
estimate            pipeline, WISHES, full=False                                    skyline, or all of a prediction
current             as estimate                                                     the same if stored and current,
                                                                                    else ``null``
add_history         document: bytes (Hadoop's map)                                  ``{"runs": n}``
update_history      pipeline, run, document: bytes (array of jobs)                  ``{"runs": 1}``
delete_history      pipeline, run                                                   ``{}``
delete_estimation   pipeline                                                        ``{"deleted": true|false}``
translate           paths, parser=None, strict=False                                report
pipelines           -                                                               list of pipelines
runs                pipeline, skylines=0                                            its runs at a glance, the last
                                                                                    so many with their skylines
forget              pipeline                                                        ``{"runs": n}`` were deleted
plot                pipeline, resource="memory", format="png", WISHES               PNG, SVG or PDF
text                pipeline, resource="memory", width=100, height=28,              text/plain
                    colour=False, WISHES
size_plot           pipeline, steps, one_job, format="png"                          PNG, SVG or PDF; steps as
                                                                                    ``sizeview.SizedStep``
size_text           pipeline, steps, one_job, width=100, height=28, colour=False    text/plain
reservation         pipeline, WISHES, what ``reservation_request`` takes            YARN's request
record_run          pipeline, run, spans, usages=(), keep=None                      ``{}``
backtest            pipeline                                                        report of the backtest
=================== =============================================================== ===========================

WISHES are ``solver``, ``alpha``, ``beta``, ``interval``, ``min_runs`` and ``kind``, each None for what is configured.
"""

from __future__ import annotations

from typing import NamedTuple

SOLVING = frozenset({"estimate", "plot", "text", "size_plot", "size_text", "reservation", "backtest", "translate"})
"""Operations that may take long; all others are quick."""

WRITING = frozenset(
    {"add_history", "update_history", "delete_history", "delete_estimation", "forget", "translate", "record_run"}
)
"""Operations that change a history or forget a prediction."""


class Outcome(NamedTuple):
    """What an operation answers: a body and its media type."""

    body: bytes
    media: str = "application/json"
