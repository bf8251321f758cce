"""The local engine: this machine as one agent.

Two sides share this package. ``engine`` and what it imports belong to the server. ``launcher`` and what it imports
(``cgroup``, ``job``, ``processes``, ``records``, ``sandbox``, ``series``, ``spawn``, ``system``) run in a process of
their own that outlives the server, and use nothing but a few modules of the standard library. Import neither side here.
"""
