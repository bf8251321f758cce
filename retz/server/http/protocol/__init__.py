"""The Retz protocol: the routes of the Java server, for clients that know nothing else. See docs/protocol.md.

A translation in both directions and nothing more: what happens is decided where the native API's requests are.
"""
