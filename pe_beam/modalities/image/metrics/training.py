"""Trains a classifier of pictures, and tells how often it is right."""

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
    """How a network learns, by Adam.

    Attributes:
      epochs: times that it sees every picture.
      batch: pictures of a step; what is left over at the end of an epoch is a smaller step, but a single one is none.
      rate: learning rate of an epoch, from 0.
      average: decay a step of the moving average of weights that is tested; None: the last weights are.
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
    """A network that has learnt, ready to be asked.

    Args:
      build: makes the network.
      pictures: uint8 (n, c, h, w), n at least 2.
      codes: int64 (n,), classes from 0.
      schedule: how it learns.
      seed: of first weights, order and dropout.
      device: torch's.
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
    """Share of pictures, uint8 (n, c, h, w), n at least 1, whose highest score is that of their class."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(pictures), _TESTED):
            scores = network(scaled(pictures[start : start + _TESTED], device))
            right += int((scores.argmax(dim=1).cpu().numpy() == codes[start : start + _TESTED]).sum())
    return right / len(pictures)


def scaled(pictures: np.ndarray, device: str) -> torch.Tensor:
    """uint8 -> float32, -1 to 1."""
    return torch.from_numpy(pictures).to(device).float() / 127.5 - 1


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Of one picture alone batch normalisation may have nothing to compare."""
    parts = (order[start : start + size] for start in range(0, len(order), size))
    return (part for part in parts if len(part) > 1)


def _average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Weights are averaged; statistics of batch normalisation, averages themselves, are the network's own."""
    with torch.no_grad():
        for own, other in zip(mean.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - decay)
        for own, other in zip(mean.buffers(), network.buffers(), strict=True):
            own.copy_(other)
