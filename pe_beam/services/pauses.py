"""Reads how long a service asks to wait, in the various forms that services use."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_A_SECOND = (1 / 86400, 1 / 3600, 1 / 60, 1, 1000)
_SAID = re.compile(r"(?:again|retry) in (\d[\d.]*(?:ms|s|m|h)[\d.hms]*)|retrydelay\W{1,5}(\d[\d.]*s)\b")
_OF = ("-requests", "-tokens", "")


def retry_after(headers: Mapping[str, str], text: str = "") -> float | None:
    """Returns the seconds that a service asks to wait; None if it does not say.

    Retry-After as seconds, milliseconds or a date takes precedence. The other forms are durations ("1m30s") in
    Retry-After or in x-ratelimit-reset-*, and then a sentence of the error text.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms", "retry-after"):
        value = headers.get(name)
        seconds = None if value is None else _pause(value, 1000 if name.endswith("-ms") else 1)
        if seconds is not None:
            return seconds
    resets = _resets(headers)
    if resets:
        return resets[0]
    told = _SAID.search(text)
    return _duration((told[1] or told[2]).rstrip(".")) if told else None


def _pause(value: str, a_second: int) -> float | None:
    """Returns the seconds of a header that is a number (`a_second` units per second) or a date; None for another."""
    try:
        if value.replace(".", "", 1).strip().isdigit() or a_second > 1:
            seconds = float(value) / a_second
        else:
            seconds = max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _resets(headers: Mapping[str, str]) -> list[float]:
    """Returns the pauses of the other headers, with the one to use first.

    This is the longest pause of a limit that is used up. If none is known to be used up, it is the shortest pause.
    """
    used_up: list[float] = []
    unsaid: list[float] = []
    for name in ("retry-after", *(f"{first}ratelimit-reset{of}" for first in ("x-", "") for of in _OF)):
        value = headers.get(name)
        seconds = None if value is None else _duration(value)
        left = headers.get(name.replace("-reset", "-remaining")) if "-reset" in name else None
        if seconds is not None and left in (None, "0"):
            (used_up if left == "0" else unsaid).append(seconds)
    return sorted(used_up, reverse=True) or sorted(unsaid)


def _duration(value: str) -> float | None:
    """Returns the seconds of "1m30s" or "350ms". A bare number is seconds, or, if it is large, a time since 1970."""
    value = value.strip().lower()
    if value.isdecimal() and len(value) < 16:
        number = float(value)
        if number > 1e11:
            number /= 1000
        return max(number - time.time(), 0.0) if number > 1e9 else number
    found = _DURATION.fullmatch(value[:40])
    parts = (
        []
        if found is None
        else [float(part) / a_second for part, a_second in zip(found.groups(), _A_SECOND, strict=True) if part]
    )
    return sum(parts) if parts else None
