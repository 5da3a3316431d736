"""Sampling parameters of a model in each iteration, and the synthetic candidates that a prompt may show."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pe_beam.errors import RecipeError
from pe_beam.modalities.text.options import Sampling
from pe_beam.selection.schedules import resolve_schedule


class Pool:
    """Synthetic candidates that a prompt may show as examples, by label."""

    def __init__(self, population: pa.Table | None) -> None:
        self._texts: dict[str | None, list[str]] = {}
        if population is not None:
            for label, text in zip(population["label"].to_pylist(), population["text"].to_pylist(), strict=True):
                self._texts.setdefault(label, []).append(text)

    def draw(self, label: str | None, count: int, rng: np.random.Generator, but: str) -> list[str]:
        """Draws up to `count` texts of a label, other than `but`."""
        texts = self._texts.get(label, [])
        picked = rng.permutation(len(texts))[: count + 1].tolist()
        return [texts[i] for i in picked if texts[i] != but][:count]


class Dials:
    """Temperature, top_p and largest number of tokens of each iteration. Raises RecipeError for a wrong value."""

    def __init__(self, sampling: Sampling, iterations: int, *, where: str) -> None:
        self._values = {
            name: resolve_schedule(getattr(sampling, name), iterations, name=f"{where}.{name}")
            for name in Sampling.model_fields
        }
        ranges = {"temperature": (0, 100), "top_p": (1e-6, 1), "max_tokens": (1, 1e6)}
        for name, (least, most) in ranges.items():
            if not all(least <= value <= most for value in self._values[name]):
                raise RecipeError(f"{where}.{name}: from {least:g} to {most:g} is wanted")

    def at(self, iteration: int) -> dict[str, float]:
        """Returns the values of an iteration; iterations count from 1."""
        return {name: values[iteration - 1] for name, values in self._values.items()}
