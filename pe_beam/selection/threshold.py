"""Sets the threshold below which votes count as noise: in votes, in sigmas, or by Stein's unbiased risk estimate."""

from __future__ import annotations

import math
import re

import numpy as np

from pe_beam.errors import RecipeError

_SIGMAS = re.compile(r"^\s*([0-9.eE+-]+)\s*sigma\s*$")


def threshold_in_votes(value: float | str, sigma: float) -> float | None:
    """Returns the threshold H in votes. None means automatic: each label gets its own.

    Args:
      value: votes (a number of 0 or more), "1.5 sigma", or "auto".
      sigma: standard deviation of the noise, in votes.

    Raises:
      RecipeError: the value is anything else.

    >>> threshold_in_votes("2 sigma", 3.0)
    6.0
    """
    if value == "auto":
        return None
    found = _SIGMAS.match(value) if isinstance(value, str) else None
    try:
        height = float(found.group(1)) * sigma if found else float(value)
    except ValueError:
        height = math.nan
    if not 0 <= height < math.inf:
        raise RecipeError(f"evolution.threshold: {value!r} is not allowed; votes of 0 or more, 'x sigma', or auto")
    return height


def auto_threshold(noisy: np.ndarray, sigma: float) -> float:
    """Returns the H >= 0 for which max(x - H, 0) has the smallest estimated risk as an estimate of the true votes.

    SURE(H) = sum(-sigma^2 + (max(x - H, 0) - x)^2 + 2 sigma^2 [x > H]) is Stein's unbiased estimate, as in
    Donoho and Johnstone (1995), for the soft threshold that is never negative. It is minimised over 0 and the
    positive values in `noisy`. The function reads noisy votes and sigma only.

    Args:
      noisy: float64 (m,), noisy votes of one label.
      sigma: standard deviation of their noise, in votes.
    """
    if sigma == 0 or len(noisy) == 0:
        return 0.0
    heights = np.concatenate([[0.0], np.unique(noisy[noisy > 0])])
    values = np.sort(noisy)
    below = np.concatenate([[0.0], np.cumsum(values**2)])
    cut = np.searchsorted(values, heights, side="right")
    above = len(values) - cut
    risk = below[cut] + above * heights**2 + 2 * sigma**2 * above
    return float(heights[int(np.argmin(risk))])


def weights_above(noisy: np.ndarray, threshold: float | np.ndarray) -> tuple[np.ndarray, str | None]:
    """Returns weights max(noisy - H, 0). If all are 0, it uses H = 0 instead, and then equal weights.

    Args:
      noisy: float64 (m,), votes.
      threshold: H in votes, one number for all candidates or float64 (m,).

    Returns:
      float64 (m,) weights of 0 or more, and the fallback in use: None, "threshold-0" or "uniform".
    """
    for height, fallback in ((threshold, None), (0.0, "threshold-0")):
        weights = np.maximum(np.asarray(noisy, dtype=np.float64) - height, 0.0)
        if weights.sum() > 0:
            return weights, fallback
    return np.ones(len(noisy), dtype=np.float64), "uniform"
