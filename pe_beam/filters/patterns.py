"""The type of options that are regular expressions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return value


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression of Python. It is the recipe's own, searched in what was made and never in private records.
There is no limit of time, and one of length would not help: `(a+)+b` takes for ever on a few dozen letters."""
