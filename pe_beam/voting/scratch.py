"""Arrays that are used again and again: new ones for every block would cost as much as what is done in them."""

from __future__ import annotations

import math
import threading

import numpy as np


class Scratch:
    """Arrays by name, one set for each thread. What is in an array lasts until the thread asks for its name again."""

    def __init__(self) -> None:
        self._local = threading.local()

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        """Returns an array with anything in it. It is made anew only if it must be larger; a name keeps its type."""
        size = math.prod(shape)
        flat: np.ndarray | None = getattr(self._local, name, None)
        if flat is None or len(flat) < size:
            flat = np.empty(size, dtype=dtype)
            setattr(self._local, name, flat)
        return flat[:size].reshape(shape)
