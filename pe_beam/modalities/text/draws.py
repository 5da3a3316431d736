"""Draws tokens for all rows of a batch at once, on the device of the logits. Each row draws by its own key.

The draw is an exponential race: the token with the smallest E / p, where the E are independent and exponential, is a
draw from p. E = -log(1 - u), and u is a hash of (seed of the row, step, token) in integers only, so the numbers are the
same on every device and in every batch. The hash is SplitMix64 (Steele, Lea and Flood 2014). Its output for seed and
step is the key of a stream. Each 64-bit output of the stream serves two tokens, the lower half the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BELOW_ONE = 1 - 2.0**-24  # the largest float32 below 1
_CPU_BLOCK, _SORTED_BLOCK, _BLOCK = 1 << 18, 1 << 22, 1 << 24
"""Numbers that are processed at a time. On a CPU they fit the caches of a thread, or serve all threads in sorting.

On an accelerator one block, or a few, hold a step.
"""


def _signed(number: int) -> int:
    """Returns a number as int64. Torch has no unsigned arithmetic, and products of int64 have the same bits."""
    return number - (1 << 64) if number >> 63 else number


def row_keys(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """Returns keys by step and row, int64 (steps, rows), on the CPU: SplitMix64 of the seed at each step.

    Args:
      seeds: seeds of the rows; taken modulo 2^64.
      steps: largest number of tokens of an answer.
    """
    with np.errstate(over="ignore"):
        turns = (np.arange(steps, dtype=np.uint64)[:, None] + np.uint64(1)) * np.uint64(_GAMMA)
        z = turns + np.array([seed % (1 << 64) for seed in seeds], dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        z ^= z >> np.uint64(31)
    return torch.from_numpy(z.view(np.int64))


def weyl(pairs: int, device: Any) -> torch.Tensor:
    """Returns the places of pairs of tokens in the Weyl sequence of a stream, int64 (pairs,)."""
    return torch.arange(1, pairs + 1, dtype=torch.int64, device=device).mul_(_signed(_GAMMA))


def uniforms(keys: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Returns uniform numbers above 0 and below 1, float32 (rows, two per pair), the same bits on every device.

    Args:
      keys: keys of the rows at this step, int64 (rows,).
      places: places of the pairs of tokens, from `weyl`, int64 (pairs,).
    """
    z = keys[:, None] + places
    shifted = torch.empty_like(z)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, None)):
        torch.bitwise_right_shift(z, shift, out=shifted)
        z.bitwise_xor_(shifted.bitwise_and_((1 << (64 - shift)) - 1))  # torch shifts in copies of the sign
        if factor is not None:
            z.mul_(_signed(factor))
    # The absolute value of a signed number is uniform too. Small values, which win the race, keep all their digits.
    return z.view(torch.int32).to(torch.float32).abs_().mul_(2.0**-31).clamp_(2.0**-32, _BELOW_ONE)


class KeyedDraws:
    """Maps logits to scores for the rows of one batch. The largest score of a row is the draw."""

    def __init__(
        self, *, seeds: Sequence[int], temperatures: Sequence[float], top_p: Sequence[float], top_k: int, steps: int
    ) -> None:
        """Takes the parameters of each row's draws.

        Args:
          seeds: the key of each row.
          temperatures: of each row; 0 takes the likeliest token.
          top_p: of each row: draws from the fewest tokens that hold this share of the probability; 1: all.
          top_k: draws from this number of likeliest tokens of every row; 0: all.
          steps: largest number of tokens that are drawn.
        """
        self._keys = row_keys(seeds, steps)
        self._heat = torch.tensor([[each or 1.0] for each in temperatures], dtype=torch.float32)
        self._greedy = torch.tensor([[each == 0] for each in temperatures])
        self._some_greedy, self._all_greedy = 0 in temperatures, not any(temperatures)
        self._share = torch.tensor([[each if each < 1 else np.inf] for each in top_p], dtype=torch.float64)
        self._narrow = [each < 1 for each in top_p]
        self._top_k = top_k
        self._places = torch.empty(0, dtype=torch.int64)

    def __call__(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Returns the scores, float32 (rows, tokens), of a step; steps count from 0."""
        logits = logits.float()
        if self._all_greedy:
            return logits
        rows, tokens = logits.shape
        self._settle(logits.device, tokens)
        scores = torch.empty_like(logits)
        cpu = _SORTED_BLOCK if any(self._narrow) else _CPU_BLOCK * torch.get_num_threads()
        height = max(1, (cpu if logits.device.type == "cpu" else _BLOCK) // tokens)
        for top in range(0, rows, height):
            own = slice(top, top + height)
            cost = (logits[own].amax(dim=-1, keepdim=True) - logits[own]).div_(self._heat[own])  # -log p, but for a sum
            if 0 < self._top_k < tokens:
                most = torch.topk(cost, self._top_k, largest=False).values[:, -1:]
                cost.masked_fill_(cost > most, torch.inf)
            if any(self._narrow[own]):
                cost.masked_fill_(_beyond(cost, self._share[own]), torch.inf)
            races = uniforms(self._keys[step, own], self._places)[:, :tokens].neg_().log1p_()  # -E
            torch.mul(cost.exp_(), races, out=scores[own])
        return torch.where(self._greedy, logits, scores) if self._some_greedy else scores

    def _settle(self, device: torch.device, tokens: int) -> None:
        """Moves what does not depend on the logits to their device, so that a step waits for nothing."""
        pairs = -(-tokens // 2)
        if len(self._places) != pairs or self._places.device != device:
            self._places = weyl(pairs, device)
            self._keys, self._heat = self._keys.to(device), self._heat.to(device)
            self._greedy, self._share = self._greedy.to(device), self._share.to(device)


def _beyond(cost: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Returns True for tokens outside the fewest that hold the share. Of equal tokens the smaller comes first."""
    ordered, places = torch.sort(cost, dim=-1, stable=True)
    mass = ordered.neg_().exp_()
    held = torch.cumsum(mass, dim=-1, dtype=torch.float64)
    outside = held - mass >= share * held[:, -1:]
    return torch.empty_like(outside).scatter_(1, places, outside)
