"""How commands print: texts of others, numbers and JSON."""

from __future__ import annotations

import json
import math
from typing import Any


def fitting(line: str, encoding: str | None) -> str:
    """Returns a line with another sign for those that a terminal's encoding does not have."""
    return line.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")


def printable(text: str) -> str:
    """Returns a text with another sign for those that steer a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def print_json(value: Any) -> None:
    """Prints one JSON object, for `--json`."""
    print(json.dumps(value, indent=1, allow_nan=False))


def told_epsilon(value: float | str) -> str:
    """Returns an epsilon as commands print it; infinity may be the "inf" of JSON."""
    return "inf" if value in (math.inf, "inf") else f"{value:.4g}"
