"""Retz and the queues people would pick instead, each behind the same few methods (``bench_rivals`` measures them)."""
