"""Copies to a device while it works: pinned memory, and a second stream. On other devices than CUDA a plain copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch


class Lane:
    """A stream of copies from the host beside the stream of work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._cuda else None

    def send(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Mark]:
        """Starts the copy of pinned tensors. Returns what will be there once the mark is reached."""
        if self._stream is None:
            return [tensor.to(self._device, copy=True) for tensor in tensors], Mark(None)
        with torch.cuda.stream(self._stream):
            moved = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
            return moved, Mark(self._stream.record_event())

    def receive(self, moved: Sequence[torch.Tensor], mark: Mark) -> None:
        """Has the stream of work wait for a copy, and the memory of the copy wait for the work."""
        if self._cuda:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(mark.event)
            for tensor in moved:
                tensor.record_stream(current)

    def mark(self) -> Mark:
        """Returns a mark that is reached when all work given so far is done."""
        return Mark(torch.cuda.current_stream(self._device).record_event() if self._cuda else None)


class Mark:
    """A point in a stream. `event` is None where there are no streams."""

    def __init__(self, event: torch.cuda.Event | None) -> None:
        self.event = event

    def wait(self) -> None:
        """Waits until the point is reached."""
        if self.event is not None:
            self.event.synchronize()


def on_host(array: np.ndarray) -> torch.Tensor:
    """Returns an array as a tensor, without a copy if it may be written to: torch warns of others."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def pin(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns a copy in the host's memory, pinned if the device is CUDA."""
    kept = tensor.cpu()
    return kept.pin_memory() if device.type == "cuda" else kept.clone()


def uploaded(vectors: np.ndarray, rows: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yields float32 (n, d) vectors on a device, `rows` at a time, through two pinned buffers."""
    lane, parts = Lane(device), [vectors[start : start + rows] for start in range(0, len(vectors), rows)]
    buffers = [torch.empty(parts[0].shape, dtype=torch.float32, pin_memory=device.type == "cuda") for _ in parts[:2]]
    copied: list[Mark] = []
    for number, part in enumerate(parts):
        if number >= 2:
            copied[number - 2].wait()  # that copy has left this buffer
        buffer = buffers[number % 2][: len(part)]
        buffer.copy_(on_host(part))
        moved, mark = lane.send([buffer])
        copied.append(mark)
        lane.receive(moved, mark)
        yield moved[0]


def streamed(tiles: Sequence[Sequence[torch.Tensor]], device: torch.device) -> Iterator[list[torch.Tensor]]:
    """Yields pinned tensors on a device. Two sets are there at a time: one is worked on, and the next is copied."""
    lane, done = Lane(device), list[Mark]()
    upcoming = lane.send(tiles[0])
    for number in range(len(tiles)):
        moved, mark = upcoming
        lane.receive(moved, mark)
        if number + 1 < len(tiles):
            if number >= 1:
                done[number - 1].wait()
            upcoming = lane.send(tiles[number + 1])
        yield moved
        done.append(lane.mark())
        del moved
