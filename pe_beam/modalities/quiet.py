"""Hides what libraries show while they load a model."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*libraries: str, warnings: bool = False) -> Iterator[None]:
    """Hides progress bars. Restores the host's settings afterwards.

    Args:
      libraries: transformers, diffusers.
      warnings: hides warnings too.
    """
    logs = [importlib.import_module(f"{library}.utils").logging for library in libraries]
    shown = [each for each in logs if each.is_progress_bar_enabled()]
    levels = [(each, each.get_verbosity()) for each in logs] if warnings else []
    for each in shown:
        each.disable_progress_bar()
    for each, _ in levels:
        each.set_verbosity_error()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()
        for each, level in levels:
            each.set_verbosity(level)
