"""The REST service: Hadoop's routes and more, as an application to be mounted wherever HTTP is served."""

from .app import PREFIX, build_app

__all__ = ["PREFIX", "build_app"]
