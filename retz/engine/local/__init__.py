"""The local engine: this machine as one agent.

Two sides share this package. ``engine`` and what it imports belong to the server. ``takeover`` and what it imports
(``launcher``, ``prepare``, ``processes``, ``records``, ``spawn`` and more) run in a process of their own that outlives
the server, and use nothing but a few modules of the standard library. ``fetch``, ``sources``, ``cache`` and ``unpack``
run in children of it. Import neither side here.
"""
