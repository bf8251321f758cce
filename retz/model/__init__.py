"""Plain typed data: no I/O, no clock. See each module for one kind of record."""
