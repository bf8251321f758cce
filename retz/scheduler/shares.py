"""Whose turn it is among users: dominant shares, past and present.

A user's *share* is the largest part of the cluster that the user's running jobs hold of any one resource
(dominant resource fairness). Its integral over time, fading with a half-life, is what the user *used*, in seconds
of the whole cluster. The user with the least *score* goes next:

    score = used + HORIZON x share

What is held now counts as if it were held for the horizon, half-life/28 (six hours of a week), to come. So users
who always have work come to hold equal shares, and small differences of the past are made good gently. Without it
the past alone would decide, and whoever used a little less would get every slot that becomes free.

The past of those who wait is cut off (:meth:`Shares.settle`): nobody who waits is charged more than
horizon / 2(n - 1) beyond the least charged of the n users who wait. In balance that is half of an equal share: whoever
used an idle cluster alone for a week gets at least half of an equal share of it as soon as others come, and waits
at most half a horizon where only one job runs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from retz.model.resources import RESOURCE_NAMES, Vector, add, subtract

from .limits import NOTHING

WEEK_S = 7 * 86400.0
HORIZONS_PER_HALF_LIFE = 28
FORGOTTEN_S = 0.01
"""Less used than this is nothing."""

Counted = tuple[tuple[int, int], ...]
"""(index in a vector, the cluster's amount) of each resource that counts and that there is."""


class Account(NamedTuple):
    """What one user used, in seconds of the whole cluster, as of ``at``, and what the user holds since."""

    used: float
    at: float
    held: Vector


class Standings(NamedTuple):
    """The accounts of some users at one moment; what a pass reckons with."""

    used: Mapping[str, float]
    held: Mapping[str, Vector]
    counted: Counted
    horizon: float

    def score(self, user: str, more: Vector = NOTHING, count: int = 0) -> float:
        """The user's score if ``count`` more jobs of this need ran."""
        return self.used.get(user, 0.0) + self.horizon * self.share(user, more, count)

    def share(self, user: str, more: Vector = NOTHING, count: int = 0) -> float:
        """The user's dominant share if ``count`` more jobs of this need ran."""
        held, most = self.held.get(user, NOTHING), 0.0
        for index, total in self.counted:
            part = (held[index] + count * more[index]) / total
            most = max(most, part)
        return most


class Shares:
    """The accounts of all users.

    Args:
        resources: Names of the resources that count.
        half_life_s: After so long, what was used counts half.

    Raises:
        ValueError: a resource is unknown, none is named, or the half-life is not positive.
    """

    def __init__(self, resources: Iterable[str] = ("cpus", "mem", "gpus"), half_life_s: float = WEEK_S) -> None:
        names = tuple(resources)
        unknown = [name for name in names if name not in RESOURCE_NAMES]
        if unknown or not names:
            which = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"not a resource: {which}; name some of {', '.join(RESOURCE_NAMES)}")
        if not half_life_s > 0:
            raise ValueError("the half-life must be more than 0")
        self._indexes = [RESOURCE_NAMES.index(name) for name in names]
        self._half_life_s = half_life_s
        self.horizon = half_life_s / HORIZONS_PER_HALF_LIFE
        self._counted: Counted = ()
        self._accounts: dict[str, Account] = {}

    def resize(self, capacity: Vector, now: float) -> None:
        """The cluster has these amounts from now on."""
        counted = tuple((index, capacity[index]) for index in self._indexes if capacity[index] > 0)
        if counted != self._counted:
            for user in list(self._accounts):
                self._accounts[user] = self._at(user, now)
            self._counted = counted

    def start(self, user: str, need: Vector, now: float) -> None:
        """A job of this need began to hold its resources."""
        used, at, held = self._at(user, now)
        self._accounts[user] = Account(used, at, add(held, need))

    def stop(self, user: str, need: Vector, now: float) -> None:
        """It holds nothing any more."""
        used, at, held = self._at(user, now)
        self._accounts[user] = Account(used, at, subtract(held, need))

    def share(self, user: str) -> float:
        """The dominant share of what the user holds, 0 to 1."""
        account = self._accounts.get(user)
        if account is None:
            return 0.0
        return max((account.held[index] / total for index, total in self._counted), default=0.0)

    def used(self, user: str, now: float) -> float:
        """Seconds of the whole cluster that count for the user."""
        return self._at(user, now).used

    def _at(self, user: str, now: float) -> Account:
        """The account brought forward. A clock that was set back stands still."""
        account = self._accounts.get(user)
        if account is None:
            return Account(0.0, now, NOTHING)
        used, at, held = account
        passed = now - at
        if passed <= 0:
            return account
        left = 2.0 ** (-passed / self._half_life_s)
        gained = self.share(user) * self._half_life_s / math.log(2) * (1 - left)
        return Account(used * left + gained, now, held)

    def settle(self, waiting: Iterable[str], now: float) -> Standings:
        """Bring the accounts of those who wait forward, cut their pasts off, and return them."""
        accounts = {user: self._at(user, now) for user in waiting}
        if len(accounts) > 1:
            most = min(account.used for account in accounts.values()) + self.horizon / (2 * (len(accounts) - 1))
            accounts = {
                user: account if account.used <= most else account._replace(used=most)
                for user, account in accounts.items()
            }
        self._accounts.update(accounts)
        return self._standings(accounts)

    def look(self, users: Iterable[str], now: float) -> Standings:
        """Their accounts as they are."""
        return self._standings({user: self._at(user, now) for user in users})

    def _standings(self, accounts: Mapping[str, Account]) -> Standings:
        return Standings(
            {user: account.used for user, account in accounts.items()},
            {user: account.held for user, account in accounts.items()},
            self._counted,
            self.horizon,
        )

    # -- over restarts -----------------------------------------------------------------------------------

    def dump(self, now: float) -> dict[str, float]:
        """What each user used, as of ``now``. Forgets those who hold nothing and used next to nothing."""
        for user in list(self._accounts):
            account = self._accounts[user] = self._at(user, now)
            if account.used < FORGOTTEN_S and account.held == NOTHING:
                del self._accounts[user]
        return {user: round(account.used, 3) for user, account in self._accounts.items()}

    def load(self, used: Mapping[str, float], at: float) -> None:
        """Take over what :meth:`dump` said at that time, before anything else."""
        for user, seconds in used.items():
            self._accounts[user] = Account(seconds, at, NOTHING)
