"""Retz: a batch-job queue that never loses a job, on one machine or on a cluster."""

__version__ = "0.1.0"
