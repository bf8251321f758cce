"""``make demo``: Retz at work, for real, in some fifteen seconds.

A temporary server on this machine. First the queue: a workload that computes rather than sleeps, a server killed with
``-9`` in the middle, and every outcome checked. Then what it learns: a small pipeline runs with a guess for its memory
until its past says what it needs, and once more with that. The exit code is 0 only if every job ended as it should.
"""
