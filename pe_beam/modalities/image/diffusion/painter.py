"""The request to a model for one picture, and the interface of a model that draws it."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Drawn = np.ndarray | str
"""A picture, uint8 (h, w) or (h, w, 3); or the kind of its rejection, in one or two words."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request for one picture.

    Attributes:
      seed: seed of all its noise, 0 <= seed < 2^63.
      prompt, negative: texts; None for a model that takes none.
      kind: class of the model; None: the model has no classes.
      parent: picture to begin from, uint8 (h, w) or (h, w, 3); None: begin from noise.
    """

    seed: int
    prompt: str | None = None
    negative: str | None = None
    kind: int | None = None
    parent: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Dials:
    """Settings of a whole call.

    Attributes:
      steps: denoising steps, at least 1.
      guidance: classifier-free guidance; None: the pipeline's own.
      first: for variations, the step to begin at, from 0 to `steps`; None: begin from noise.
      strength: for variations, the share of steps that is done, as pipelines take it.
    """

    steps: int
    guidance: float | None = None
    first: int | None = None
    strength: float | None = None


class Painter(abc.ABC):
    """A loaded model. Only one thread may use it at a time, because schedulers store their current step."""

    mode: str = "RGB"
    """Mode of the pictures: "L" or "RGB"."""
    classes: int | None = None
    """Number of classes of the model; None: it has no classes."""

    @abc.abstractmethod
    def paint(self, asks: Sequence[Ask], dials: Dials) -> list[Drawn]:
        """Draws a picture for each ask. All asks have a parent, or none has.

        A picture depends only on its ask and on the number of asks.
        """


def generators(asks: Sequence[Ask]) -> list[Any]:
    """Returns a stream of noise for each ask. The streams are of the CPU, so they are the same for every device."""
    import torch

    return [torch.Generator("cpu").manual_seed(ask.seed) for ask in asks]


def to_bytes(values: np.ndarray) -> list[Drawn]:
    """Converts float (n, h, w, c) in [0, 1] to pictures. A picture with a value that is not finite is rejected."""
    made: list[Drawn] = []
    for one in values:
        if not np.isfinite(one).all():
            made.append("not finite")
            continue
        gray = np.rint(np.clip(one, 0, 1) * 255).astype(np.uint8)
        made.append(gray[:, :, 0] if gray.shape[2] == 1 else gray)
    return made
