"""Whose rights a job has on the machine that runs it.

A Unix user is a key to what that user may read. So an application may name one only if its owner is an administrator,
or is mapped to that very user, or would get it anyway (who is mapped does not get the default one); otherwise every
user of the queue could be everybody.
"""

from __future__ import annotations

import os
import pwd

from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.model.application import Application
from retz.model.user import User

TELL_WHOM = (
    "root has started this server: say as which Unix user jobs run that have none of their own, with {how}. Either an "
    "ordinary user, such as one made for it ('useradd --system --create-home retz-jobs', then {key} = \"retz-jobs\"); "
    'or "root", in a container or on a machine of your own, where everybody who may submit may do everything'
)


def unix_user_of(application: Application | None, owner: User | None) -> str | None:
    """Return the Unix user of a job about to be launched, which :func:`refusal` allows; None for the default one."""
    if application is not None and application.user is not None:
        return application.user
    return None if owner is None else owner.unix_user


def refusal(application: Application | None, owner: User | None, config: ServerConfig, can_choose: bool) -> str | None:
    """Return why jobs cannot run as the Unix user that they would have; None if they can.

    It is asked at the submit and again before each start: what an application names counts only as long as its owner
    may name it, and a job that would have run as somebody else than it was written for had better not run.

    Args:
        can_choose: Whether the engine can run jobs as other users than the server's.
    """
    asked = unix_user_of(application, owner)
    if asked is None:
        return None
    if not can_choose:
        own = own_user()
        if application is None or application.user in (None, own):
            return None
        return (
            f"jobs cannot run as Unix user {asked!r}: this server runs as {own!r}, and only a server that root has "
            "started can run jobs as others; leave the user out"
        )
    default = default_name(config)
    contained = application is not None and application.container.type != "none"
    if asked == "root" and not contained and default != "root":
        return "user root is only allowed with a container"
    mapped = None if owner is None else owner.unix_user
    if asked == (mapped or default) or (owner is not None and owner.admin):
        return None
    return (
        f"Unix user {asked!r} is not yours to use: leave it out, or ask an administrator to map you to it "
        f"('retz admin set-user KEY --unix-user {asked}')"
    )


def check_configured(config: ServerConfig) -> None:
    """See that jobs run as somebody who may be meant: never as root because nobody thought of it.

    Raises:
        ConfigError: the text says what to set.
    """
    if config.engine == "null":
        return
    if os.geteuid() == 0 and default_user(config) is None:
        raise ConfigError(TELL_WHOM.format(how=_ways(config), key=f"retz.{config.engine}.user"))
    if config.engine != "local":
        return
    own = own_user()
    if os.geteuid() != 0 and config.local_user not in (None, own):
        raise ConfigError(
            f"retz.local.user is {config.local_user!r}, but this server runs as {own!r} and can run jobs as nobody "
            "else: start it as root, or leave that out"
        )
    if config.local_user is not None:
        _check_known(config.local_user)


def default_user(config: ServerConfig) -> str | None:
    """The Unix user of jobs that have none of their own; None if it is the server's, or the engine runs nothing."""
    if config.engine == "local":
        return config.local_user
    return config.mesos_user if config.engine == "mesos" else None


def default_name(config: ServerConfig) -> str:
    """The same by name."""
    return default_user(config) or own_user()


def own_user() -> str:
    """The name of the Unix user that this process runs as; its number if it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _ways(config: ServerConfig) -> str:
    if config.engine == "local":
        return "retz.local.user (retz-server --local-user NAME, or RETZ_LOCAL_USER)"
    return "retz.mesos.user (or RETZ_MESOS_USER)"


def _check_known(name: str) -> None:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"retz.local.user: this machine has no Unix user {name!r}") from None
    if uid == 0 and name != "root":
        raise ConfigError(f'retz.local.user: {name!r} has root\'s rights; write "root" if that is meant')
