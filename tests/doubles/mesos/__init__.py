"""A double of an Apache Mesos cluster: a master and agents that answer as the real ones were recorded to answer."""
