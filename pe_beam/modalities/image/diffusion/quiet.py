"""Hides what libraries show while they load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*, warnings: bool = False) -> Iterator[None]:
    """Hides progress bars. Restores the host's settings afterwards.

    Args:
      warnings: hides warnings too.
    """
    from diffusers.utils import logging
    from transformers.utils import logging as other

    shown = [each for each in (logging, other) if each.is_progress_bar_enabled()]
    before = logging.get_verbosity(), other.get_verbosity()
    for each in shown:
        each.disable_progress_bar()
    if warnings:
        logging.set_verbosity_error()
        other.set_verbosity_error()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()
        if warnings:
            logging.set_verbosity(before[0])
            other.set_verbosity(before[1])
