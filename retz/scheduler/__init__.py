"""Who runs next, and where. Pure: no clock, no asyncio, no I/O; see ``scheduler.py``."""
