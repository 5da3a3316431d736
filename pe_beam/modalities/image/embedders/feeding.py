"""Turns encoded pictures into batches of one shape. Threads prepare one while the network computes the previous one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pe_beam.contracts.record import Fault
from pe_beam.modalities.image.codec import decode_image

MOST_STRETCHED = 100
"""Largest ratio of the longer side to the shorter. Networks resize the shorter side, so that a very thin picture
would need gigabytes."""


@dataclass(frozen=True)
class Batch:
    """A batch of prepared pictures.

    Attributes:
      start: row of its first picture.
      count: number of rows; the places after them are zeros.
      pictures: float32 tensor (b, 3, h, w); it is valid until the next batch is requested.
      faults: row -> why its place is zeros.
    """

    start: int
    count: int
    pictures: Any
    faults: dict[int, Fault]


def fed(
    data: Sequence[object],
    prepare: Callable[[Image.Image], np.ndarray],
    *,
    shape: tuple[int, int, int, int],
    threads: int,
    pinned: bool,
) -> Iterator[Batch]:
    """Yields batches of all of `data`, in order.

    Args:
      data: encoded pictures.
      prepare: maps an RGB picture to float32 (3, h, w).
      shape: shape of a batch: (b, 3, h, w).
      threads: number of pictures that are prepared at a time; 1: no picture is prepared ahead of its batch.
      pinned: whether tensors lie in pinned memory.
    """
    import torch

    tensors = [torch.zeros(shape, pin_memory=pinned) for _ in range(2 if threads > 1 else 1)]
    starts = range(0, len(data), shape[0])
    with ThreadPoolExecutor(threads) if threads > 1 else contextlib.nullcontext() as pool:

        def begin(index: int) -> Iterator[Fault | None]:
            places = tensors[index % len(tensors)].numpy()
            part = data[starts[index] : starts[index] + shape[0]]
            places[len(part) :] = 0
            each = [(one, place, prepare) for one, place in zip(part, places, strict=False)]
            return pool.map(_fill, each) if pool else map(_fill, each)

        ahead = begin(0) if starts else iter(())
        for index, start in enumerate(starts):
            found = list(ahead)
            if pool and index + 1 < len(starts):
                ahead = begin(index + 1)
            faults = {start + place: fault for place, fault in enumerate(found) if fault is not None}
            yield Batch(start, len(found), tensors[index % len(tensors)], faults)
            if not pool and index + 1 < len(starts):
                ahead = begin(index + 1)


def _fill(task: tuple[object, np.ndarray, Callable[[Image.Image], np.ndarray]]) -> Fault | None:
    data, place, prepare = task
    image = decode_image(data, mode="RGB")
    if not isinstance(image, Fault) and max(image.size) > MOST_STRETCHED * min(image.size):
        image = Fault(f"image more than {MOST_STRETCHED} times as long as wide", f"{image.width} x {image.height}")
    if isinstance(image, Fault):
        place[...] = 0
        return image
    place[...] = prepare(image)
    return None
