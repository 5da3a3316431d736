"""How much the runs of a book may spend together, computed once, when it is opened (DESIGN, privacy rule 17).

Gaussian runs may be chosen after the releases of earlier ones, as long as the sum of their 1/z^2 stays within mu^2 of a
total that was fixed before the first: a Gaussian filter. After any of them, what is left is a Gaussian mechanism again
(the hockey-stick divergence of G(a) x G(b) is that of G(sqrt(a^2 + b^2))), so that whatever is chosen next, or nothing,
the whole is dominated by the total. That step is not there for mechanisms on samples. They count as such only if their
pairs were fixed beforehand: then what is left is the product of the pairs that are left, in any order, and one Gaussian
mechanism beside them. So the total is solved for with all planned pairs in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pe_beam.errors import InputError
from pe_beam.privacy import accounting
from pe_beam.privacy.subsampled import Spending

_LEAST_ROOM = 1e-3
"""Least mu that is left beside planned runs; below it they are said to take all."""


def room_beside(planned: Sequence[Spending], *, epsilon: float, delta: float) -> float | None:
    """Returns Z: the sum of 1/z^2 of Gaussian runs may reach 1/Z^2 beside planned runs on samples.

    Args:
      planned: all that the planned runs spend.
      epsilon: of all runs together, 0.001 to 1000.
      delta: of all runs together, above 0 and below 1.

    Returns:
      The smallest noise multiplier that keeps (epsilon, delta): to float64 without planned runs, else within 1e-3 above
      it. None: planned runs leave no room.

    Raises:
      RecipeError: epsilon or delta is out of its range, or two ways of accounting disagree.
      InputError: the planned runs spend more than epsilon.
    """
    alone = accounting.calibrate(epsilon=epsilon, delta=delta, weights=[1.0], sensitivity=1.0).noise_multipliers[0]

    def keeps(multiplier: float) -> bool:
        return keeps_total(planned, multiplier, epsilon=epsilon, delta=delta)

    if not planned:
        return _smallest(keeps, alone * (1 - 2.0**-28), alone, exactly=True)
    taken = accounting.spent_epsilon(planned, delta)
    if taken > epsilon:
        raise InputError(
            f"book: the planned runs come to epsilon {taken:.6g} at delta {delta:g}, more than {epsilon:g}; fewer, or "
            "more noise, is wanted"
        )
    accounting.check_spendings(planned, delta)
    return _smallest(keeps, alone, 1 / _LEAST_ROOM) if keeps(1 / _LEAST_ROOM) else None


def keeps_total(planned: Sequence[Spending], multiplier: float | None, *, epsilon: float, delta: float) -> bool:
    """Returns whether planned runs and all others together keep (epsilon, delta): whether nobody edited an opening."""
    rest = [] if multiplier is None else [Spending(multiplier)]
    return accounting.spent_epsilon([*planned, *rest], delta) <= epsilon


def _smallest(keeps: Callable[[float], bool], low: float, high: float, *, exactly: bool = False) -> float:
    """Returns a multiplier that keeps the total, by bisection; `high` does."""
    while high > low * (1 if exactly else 1 + 1e-3):
        middle = (low + high) / 2 if exactly else math.sqrt(low * high)
        if middle in (low, high):
            break
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high
