"""Lets Beam build graphs in notebooks in which its own support of them cannot be imported.

In a notebook Beam 2.77 puts the number of the cell before the names of steps. For that it imports its data frames,
which fails beside pandas 3 and without pandas: no pipeline at all could be built there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apache_beam import pipeline as beams


class Renaming:
    """Beam's own renaming of steps until it fails; from then on steps keep their names.

    >>> def fails(transform, pvalueish):
    ...     raise ImportError("pandas")
    >>> Renaming(fails)(None, None)
    """

    def __init__(self, rename: Callable[[Any, Any], None]) -> None:
        self._rename: Callable[[Any, Any], None] | None = rename

    def __call__(self, transform: Any, pvalueish: Any) -> None:
        """Renames a step that is about to be applied, where that is possible."""
        if self._rename is not None:
            try:
                self._rename(transform, pvalueish)
            except (ImportError, AttributeError):
                self._rename = None


def mend() -> None:
    """Makes Beam's renaming one that may fail. Does nothing the second time."""
    if not isinstance(beams.alter_label_if_ipython, Renaming):
        beams.alter_label_if_ipython = Renaming(beams.alter_label_if_ipython)
