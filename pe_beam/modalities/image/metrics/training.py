"""Trains a classifier of pictures, and measures its accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pe_beam.modalities.image.metrics.networks import begin

_TESTED = 256  # pictures at a time


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The training schedule of a network, with Adam.

    Attributes:
      epochs: number of times that it sees every picture.
      batch: pictures per step. The last step of an epoch may be smaller, but one picture alone is left out.
      rate: learning rate of an epoch; epochs count from 0.
      average: decay per step of the moving average of weights, which is tested; None: the last weights are tested.
    """

    epochs: int
    batch: int
    rate: Callable[[int], float]
    average: float | None = None


def trained(
    build: Callable[[], nn.Module],
    pictures: np.ndarray,
    codes: np.ndarray,
    schedule: Schedule,
    *,
    seed: int,
    device: str = "cpu",
) -> nn.Module:
    """Trains a network. Returns it in evaluation mode.

    Args:
      build: makes the network.
      pictures: uint8 (n, c, h, w), n at least 2.
      codes: int64 (n,), classes from 0.
      schedule: how it learns.
      seed: seed of initial weights, order and dropout.
      device: torch's device.
    """
    draws = torch.Generator(device).manual_seed(seed % 2**63)
    with torch.device("meta"):
        network = build()
    begin(network, draws).train()
    mean = copy.deepcopy(network) if schedule.average is not None else network
    optimiser = torch.optim.Adam(network.parameters())
    rng, step = np.random.default_rng(seed), 0
    for epoch in range(schedule.epochs):
        optimiser.param_groups[0]["lr"] = schedule.rate(epoch)
        for rows in _batches(rng.permutation(len(pictures)), schedule.batch):
            scores = network(scaled(pictures[rows], device))
            loss = nn.functional.cross_entropy(scores, torch.from_numpy(codes[rows]).to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            if schedule.average is not None:
                _average(mean, network, min(schedule.average, (1 + step) / (10 + step)))
    return mean.eval()


def accuracy(network: nn.Module, pictures: np.ndarray, codes: np.ndarray, *, device: str = "cpu") -> float:
    """Returns the share of pictures, uint8 (n, c, h, w), n at least 1, whose highest score is that of their class."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(pictures), _TESTED):
            scores = network(scaled(pictures[start : start + _TESTED], device))
            right += int((scores.argmax(dim=1).cpu().numpy() == codes[start : start + _TESTED]).sum())
    return right / len(pictures)


def scaled(pictures: np.ndarray, device: str) -> torch.Tensor:
    """Converts uint8 to float32, -1 to 1."""
    return torch.from_numpy(pictures).to(device).float() / 127.5 - 1


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cuts rows into batches. Leaves out a batch of one picture, which batch normalisation may not accept."""
    parts = (order[start : start + size] for start in range(0, len(order), size))
    return (part for part in parts if len(part) > 1)


def _average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Averages weights. Copies the statistics of batch normalisation, because they are averages already."""
    with torch.no_grad():
        for own, other in zip(mean.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - decay)
        for own, other in zip(mean.buffers(), network.buffers(), strict=True):
            own.copy_(other)
