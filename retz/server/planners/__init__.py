"""Planners of users' own: a worker process that plans, and what is done when it does not."""
