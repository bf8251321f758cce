"""A Mesos cluster as an engine; docs/mesos.md says how it is run, docs/architecture.md why it is built so."""
