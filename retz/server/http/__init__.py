"""The HTTP face of the server: the native API of docs/api.md. :func:`build_app` is the way in."""

from .app import build_app, build_runner

__all__ = ["build_app", "build_runner"]
