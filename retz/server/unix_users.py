"""Whose rights a job has on the machine that runs it.

A Unix user is a key to what that user may read. So an application may name one only if its owner is an administrator,
or is mapped to that very user, or would get it anyway; otherwise every user of the queue could be everybody.
"""

from __future__ import annotations

import os
import pwd

from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.model.application import Application
from retz.model.user import User


def unix_user_of(application: Application | None, owner: User | None) -> str | None:
    """Return the Unix user of a job about to be launched; None for the engine's default.

    What an application names counts only as long as its owner may name it.
    """
    mapped = None if owner is None else owner.unix_user
    if application is None or application.user is None:
        return mapped
    return application.user if owner is not None and owner.admin else mapped


def refusal(application: Application, owner: User | None, config: ServerConfig, can_choose: bool) -> str | None:
    """Return why jobs cannot run as the application's Unix user; None if they can.

    Args:
        can_choose: Whether the engine can run jobs as other users than the server's.
    """
    asked = application.user
    if asked is None:
        return None
    if not can_choose:
        own = own_user()
        return (
            None
            if asked == own
            else (
                f"jobs cannot run as Unix user {asked!r}: this server runs as {own!r}, and only a server that root has "
                "started can run jobs as others; leave the user out"
            )
        )
    default = config.mesos_user if config.engine == "mesos" else config.default_unix_user
    if asked == "root" and application.container.type == "none" and default != "root":
        return "user root is only allowed with a container"
    if asked == default or (owner is not None and (owner.admin or asked == owner.unix_user)):
        return None
    return (
        f"Unix user {asked!r} is not yours to use: leave it out, or ask an administrator to map you to it "
        f"('retz admin set-user KEY --unix-user {asked}')"
    )


def check_configured(config: ServerConfig) -> None:
    """See that the local engine knows whom to run jobs as, and can.

    Raises:
        ConfigError: it does not; the text says what to set.
    """
    if config.engine != "local":
        return
    own = own_user()
    if os.geteuid() != 0 and config.local_user not in (None, own):
        raise ConfigError(
            f"retz.local.user is {config.local_user!r}, but this server runs as {own!r} and can run jobs as nobody "
            "else: start it as root, or leave that out"
        )
    if config.local_user is not None and not _exists(config.local_user):
        raise ConfigError(f"retz.local.user: this machine has no Unix user {config.local_user!r}")


def own_user() -> str:
    """The name of the Unix user that this process runs as; its number if it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
