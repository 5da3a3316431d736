"""Shapes of batches for a sentence encoder, which follow from each text's own length; and trial texts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pe_beam.kept import kept

_LENGTHS = (8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
"""Lengths in tokens to which texts are padded, a tenth too long on average. The model's own limit is added."""


def batches(model: Any, prefix: str, texts: list[str], *, size: int) -> Iterator[tuple[np.ndarray, str, int]]:
    """Yields batches: places of texts, a filler text, and how many fillers complete the batch.

    A batch has `size` texts, including the fillers. At least one of them has the length of the filler, and the others
    are padded to it. A model without a tokenizer that pads (static vectors) computes each text separately, so any batch
    will do.
    """
    if not callable(getattr(model, "tokenizer", None)):
        yield from ((np.arange(i, min(i + size, len(texts))), "", 0) for i in range(0, len(texts), size))
        return
    ladder, lengths = fillers(model, prefix), token_counts(model, prefix, texts)
    groups = np.searchsorted([length for length, _ in ladder], lengths)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        length, filler = ladder[group]
        exact = lengths[places] == length
        for own in _dealt(places[exact].tolist(), places[~exact].tolist(), size):
            yield np.array(own), filler, size - len(own)


def _dealt(exact: list[int], others: list[int], size: int) -> Iterator[list[int]]:
    """Yields batches of up to `size` with a text of the exact length in front; without one, of up to `size - 1`."""
    while exact:
        own, exact = exact[:1] + others[: size - 1], exact[1:]
        others = others[size - 1 :]
        room = size - len(own)
        yield own + exact[:room]
        exact = exact[room:]
    for start in range(0, len(others), size - 1):
        yield others[start : start + size - 1]


def token_counts(model: Any, prefix: str, texts: list[str]) -> np.ndarray:
    """Returns the number of tokens that the model reads of each text."""
    return np.array([len(codes) for codes in _counter(model)([prefix + text for text in texts])])


@kept(maxsize=2)
def _counter(model: Any) -> Callable[[list[str]], list[list[int]]]:
    """Returns a separate tokenizer, because threads that share one must not switch its padding on and off."""
    tokenizer, most = copy.deepcopy(model.tokenizer), int(model.max_seq_length or 512)

    def count(texts: list[str]) -> list[list[int]]:
        codes: list[list[int]] = tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        return codes

    count(["a"])
    return count


@kept(maxsize=8)
def fillers(model: Any, prefix: str) -> list[tuple[int, str]]:
    """Returns pairs (number of tokens, a text with that number), ascending. No text has more than the last."""
    most = int(model.max_seq_length or 512)
    fixed = int(token_counts(model, prefix, ["a"])[0]) - 1
    wanted = sorted({min(length, most) for length in _LENGTHS} | {most})
    texts = ["a" + " a" * max(length - fixed - 1, 0) for length in wanted]
    found: dict[int, str] = {}
    for count, text in zip(token_counts(model, prefix, texts).tolist(), texts, strict=True):
        found.setdefault(int(count), text)
    return sorted(found.items())


_TRIED = (8, 32, 128, 512)
"""Lengths in tokens of trial texts. A model's limit, and the limit of a batch, remove the long ones."""
_WORDS = "the of and to in is was for on that with as are they at be this from have or had by but some what"


def trial_texts(model: Any, prefix: str, *, size: int, most: int) -> list[str]:
    """Returns made-up texts for the self-check: about `size` of each tried length.

    Texts that have the full length and texts that are padded to it alternate, so that batches without padding, with
    some padding, and with a single full text all occur.

    Args:
      model: a model of sentence-transformers.
      prefix: the text that the model reads before every text.
      size: texts of a batch.
      most: largest number of tokens of a batch; the shortest texts are always tried.
    """
    rng = np.random.default_rng(0)
    if not callable(getattr(model, "tokenizer", None)):
        return [_words(rng, count) for count in rng.integers(1, 64, size=size + 1)]
    found: list[str] = []
    ladder = fillers(model, prefix)
    lengths = [length for length, _ in ladder]
    for rung in sorted({min(int(np.searchsorted(lengths, length)), len(ladder) - 1) for length in _TRIED}):
        if rung and (lengths[rung] * size > most or lengths[rung] > _TRIED[-1]):
            continue
        full, padded = _of_length(
            model, prefix, rng, below=lengths[rung - 1] if rung else 0, rung=ladder[rung], size=size
        )
        for place in range(-(-size // 2)):
            found.append(full[place % len(full)])
            found.extend(padded[place % len(padded)] for _ in padded[:1])
    return found


def _of_length(
    model: Any, prefix: str, rng: np.random.Generator, *, below: int, rung: tuple[int, str], size: int
) -> tuple[list[str], list[str]]:
    """Returns at least one text of exactly the rung's length, and texts that are padded to it, if there are any."""
    length, filler = rung
    fixed = int(token_counts(model, prefix, ["a"])[0]) - 1
    most = max(length - fixed, 1)
    counts = [most] * size + rng.integers(min(max(below - fixed, 1), most), most + 1, size=size).tolist()
    texts = [_words(rng, count) for count in counts]
    tokens = token_counts(model, prefix, texts)
    full = [text for text, count in zip(texts, tokens, strict=True) if count == length]
    padded = [text for text, count in zip(texts, tokens, strict=True) if below < count < length]
    return full or [filler], padded


def _words(rng: np.random.Generator, count: int) -> str:
    words = _WORDS.split()
    return " ".join(words[place] for place in rng.integers(len(words), size=count))
