"""Fixed shapes: every call of a model has the same number of pictures, so that no picture depends on the others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

from pe_beam.errors import StageError

T = TypeVar("T")
R = TypeVar("R")


class Batches:
    """Calls with `size` items at a time, filled up with the last item. `size` is halved when memory runs out.

    In another shape a model adds in another order, so the last bits of a picture differ after halving. The smaller size
    stays for the rest of the process.
    """

    def __init__(self, size: int) -> None:
        """Takes the number of items per call, at least 1."""
        self.size = size

    def run(self, items: Sequence[T], call: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Returns what `call` makes of the items, in order.

        Raises:
          StageError: memory runs out with one item.
        """
        done: list[R] = []
        while len(done) < len(items):
            own = items[len(done) : len(done) + self.size]
            made = _unless_out_of_memory(call, [*own, *[own[-1]] * (self.size - len(own))])
            if made is not None:
                done += made[: len(own)]
            elif self.size == 1:
                raise StageError(
                    "generator.local: out of memory with one picture at a time; dtype float16 or bfloat16, offload, "
                    "attention_slicing, a smaller size or a larger device is wanted"
                )
            else:
                self.size //= 2
                _free()
        return done


def _unless_out_of_memory(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> Sequence[R] | None:
    """Returns the result of `call`; None: memory ran out. The exception is dropped, because it keeps memory in use."""
    import torch

    try:
        return call(items)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:  # what the CPU's allocator and other devices raise
        text = str(error).lower()
        if "out of memory" in text or "can't allocate memory" in text:
            return None
        raise


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
