"""What is asked of a model for one picture, and what draws it."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Drawn = np.ndarray | str
"""uint8 (h, w) or (h, w, 3); or the kind of its rejection, in a word or two."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One picture.

    Attributes:
      seed: of all its noise, 0 <= seed < 2^63.
      prompt, negative: texts; None for a model that takes none.
      kind: class of the model; None: it has none.
      parent: uint8 (h, w) or (h, w, 3) to begin from; None: from noise.
    """

    seed: int
    prompt: str | None = None
    negative: str | None = None
    kind: int | None = None
    parent: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What holds for a whole call.

    Attributes:
      steps: denoising steps, at least 1.
      guidance: None: the pipeline's own.
      first: of variations, the step to begin at, from 0 to `steps`; None: from noise.
      strength: of variations, the share of steps that is done, as pipelines take it.
    """

    steps: int
    guidance: float | None = None
    first: int | None = None
    strength: float | None = None


class Painter(abc.ABC):
    """A loaded model. Not for several threads at a time: schedulers keep their place in themselves."""

    mode: str = "RGB"
    """Of the pictures: "L" or "RGB"."""
    classes: int | None = None
    """How many classes the model knows; None: none."""

    @abc.abstractmethod
    def paint(self, asks: Sequence[Ask], dials: Dials) -> list[Drawn]:
        """A picture for each; all have a parent, or none has. A picture follows from its ask and the number of asks."""


def generators(asks: Sequence[Ask]) -> list[Any]:
    """A stream of noise for each, of the CPU: the same on every device."""
    import torch

    return [torch.Generator("cpu").manual_seed(ask.seed) for ask in asks]


def to_bytes(values: np.ndarray) -> list[Drawn]:
    """float (n, h, w, c) in [0, 1] -> pictures; one with NaN is a rejected answer."""
    made: list[Drawn] = []
    for one in values:
        if not np.isfinite(one).all():
            made.append("not finite")
            continue
        gray = np.rint(np.clip(one, 0, 1) * 255).astype(np.uint8)
        made.append(gray[:, :, 0] if gray.shape[2] == 1 else gray)
    return made
