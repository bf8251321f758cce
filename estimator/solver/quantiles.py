"""Quantiles that are values somebody has seen: no interpolation, so whole containers stay whole."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.int64, np.float64)


def rank(count: int, percent: int) -> int:
    """Place, among ``count`` ascending values, of the smallest that at least ``percent`` % of them do not exceed."""
    return max(0, -(-count * percent // 100) - 1)


def quantile(values: npt.NDArray[Number], percent: int) -> npt.NDArray[Number]:
    """That value of each column of ``values`` (``[n, ...]``, n at least 1): ``[...]``."""
    place = rank(len(values), percent)
    found: npt.NDArray[Number] = np.partition(values, place, axis=0)[place]
    return found
