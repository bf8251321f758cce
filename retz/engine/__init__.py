"""What runs tasks: the contract in base.py, this machine in local/, a Mesos cluster in mesos/."""
