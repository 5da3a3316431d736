"""Next-word perplexity and accuracy on held-out texts, of models tuned only on samples. All of it is private.

The vocabulary is that of the held-out texts for every population, so that floor, samples and ceiling are comparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.errors import MissingExtraError
from pe_beam.modalities.text.metrics import words_of
from pe_beam.modalities.text.trigrams import Trigrams

LANGUAGE_MODEL = "language_model"
"""The option of `evaluate` that names a pretrained model."""

_TEXTS = 2000  # largest number on each side
_VOCABULARY = 2000  # a word beyond it, or one that held-out texts have only once, counts as the rare word
_RARE = "<rare>"


def trigram_perplexity(comparison: Comparison) -> Measured:
    """Returns the perplexity of a Kneser-Ney trigram model; lower is better."""
    made, real = map(words_of, chosen_tables(comparison))
    known = set(_vocabulary(real))
    tuned, asked = ([[word if word in known else _RARE for word in own] for own in texts] for texts in (made, real))
    model = Trigrams(tuned, len(known) + 2)
    return Measured(figures={"next_word_perplexity_trigram": model.perplexity(asked)})


def next_word_perplexity(comparison: Comparison) -> Measured:
    """Returns perplexity and accuracy of a small neural model that learns only from samples, from random weights.

    Raises:
      MissingExtraError: torch is not installed; the trigram's figure is then the only one.
    """
    try:
        from pe_beam.modalities.text.word_model import WordModel
    except ImportError:
        raise MissingExtraError(
            "next_word_perplexity needs torch; install pe_beam[text] (next_word_perplexity_trigram does without)"
        ) from None
    made, real = map(words_of, chosen_tables(comparison))
    codes = {word: code for code, word in enumerate(_vocabulary(real), start=2)}  # 0: an end; 1: a rare word
    coded = [
        [np.array([codes.get(word, 1) for word in own], dtype=np.int64) for own in texts] for texts in (made, real)
    ]
    # One thread: small products gain little from more threads, and lose much if other programs use the cores. One
    # thread gives the same figures on any number of cores.
    with threadpool_limits(1):
        perplexity, accuracy = WordModel(coded[0], len(codes) + 2, seed=comparison.seed).measure(coded[1])
    return Measured(figures={"next_word_perplexity": perplexity, "next_word_accuracy": accuracy})


def tuned_perplexity(comparison: Comparison) -> Measured:
    """Returns perplexity and accuracy of a pretrained model that is tuned on samples; nothing if none is named.

    Raises:
      InputError: the model cannot be loaded.
      MissingExtraError: torch or transformers is not installed.
    """
    name = comparison.options.get(LANGUAGE_MODEL)
    if name is None:
        return Measured(figures={})
    try:
        from pe_beam.modalities.text.tuned_model import TunedModel
    except ImportError:
        raise MissingExtraError(f"{LANGUAGE_MODEL} needs torch and transformers; install pe_beam[text]") from None
    samples, held_out = chosen_tables(comparison)
    model = TunedModel(name)
    model.tune(samples["text"].to_pylist(), seed=comparison.seed)
    perplexity, accuracy = model.measure(held_out["text"].to_pylist())
    return Measured(figures={"tuned_model_perplexity": perplexity, "tuned_model_accuracy": accuracy})


def chosen_tables(comparison: Comparison) -> tuple[pa.Table, pa.Table]:
    """Returns samples and held-out texts, cut to `_TEXTS`. A ceiling learns from no more texts than samples have."""
    most = min(_TEXTS, comparison.sample_count or _TEXTS)
    return _some(comparison.samples, most, comparison.seed), _some(comparison.held_out, _TEXTS, comparison.seed)


def _some(table: pa.Table, most: int, seed: int) -> pa.Table:
    rows = np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:most])
    return table.take(pa.array(rows))


def _vocabulary(texts: Sequence[Sequence[str]]) -> list[str]:
    """Returns the words that occur at least twice, the most frequent first, equals in alphabetical order."""
    counts = Counter(word for own in texts for word in own)
    ordered = sorted((-count, word) for word, count in counts.items() if count > 1)
    return [word for _, word in ordered[:_VOCABULARY]]
