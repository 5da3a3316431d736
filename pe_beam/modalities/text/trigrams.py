"""An interpolated Kneser-Ney trigram model over words: trained in a second, without any package."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


class Trigrams:
    """Interpolated Kneser-Ney of order 3 with one discount (Chen and Goodman 1999).

    Args:
      texts: words of each text.
      size: number of words, including the end of a text.
    """

    discount = 0.75

    def __init__(self, texts: Sequence[Sequence[str]], size: int) -> None:
        self._size = size
        self._full: Counter[tuple[str, ...]] = Counter()
        for words in texts:
            padded = ["<s>", "<s>", *words, "</s>"]
            self._full.update(zip(padded, padded[1:], padded[2:], strict=False))
        # Lower orders count the different contexts of a run.
        pairs: Counter[tuple[str, ...]] = Counter((b, c) for _, b, c in self._full)
        self._levels: list[Counter[tuple[str, ...]]] = [self._full, pairs, Counter((c,) for _, c in pairs)]
        self._totals: list[Counter[tuple[str, ...]]] = []
        self._kinds: list[Counter[tuple[str, ...]]] = []
        for level in self._levels:
            totals: Counter[tuple[str, ...]] = Counter()
            kinds: Counter[tuple[str, ...]] = Counter()
            for run, count in level.items():
                totals[run[:-1]] += count
                kinds[run[:-1]] += 1
            self._totals.append(totals)
            self._kinds.append(kinds)

    def probability(self, run: tuple[str, ...], level: int = 0) -> float:
        """Returns the probability of the last word of a run after the others."""
        if level == len(self._levels):
            return 1 / self._size
        lower = self.probability(run[1:], level + 1)
        context = run[:-1]
        total = self._totals[level][context]
        if not total:
            return lower
        own = max(self._levels[level][run] - self.discount, 0.0)
        return (own + self.discount * self._kinds[level][context] * lower) / total

    def perplexity(self, texts: Sequence[Sequence[str]]) -> float:
        """Returns the perplexity of the words of texts and their ends."""
        total, count = 0.0, 0
        for words in texts:
            padded = ["<s>", "<s>", *words, "</s>"]
            for run in zip(padded, padded[1:], padded[2:], strict=False):
                total -= math.log(self.probability(run))
                count += 1
        return math.exp(total / max(count, 1))
