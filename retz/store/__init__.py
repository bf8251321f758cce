"""The durable store: a journalled TinyDB. See :mod:`retz.store.database` for the whole interface."""
