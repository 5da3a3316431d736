"""Next-word perplexity and accuracy on held-out texts of models tuned on the samples alone. All of it is private.

The words that count are the held-out texts' own, whichever population is measured, so that floor, samples and ceiling
are asked the same questions.
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

_TEXTS = 2000  # on each side, at most
_VOCABULARY = 2000  # beyond it, and where held-out texts have it once only, a word counts as "some rare word"
_RARE = "<rare>"


def trigram_perplexity(comparison: Comparison) -> Measured:
    """Under a Kneser-Ney trigram: lower is better."""
    made, real = map(words_of, chosen_tables(comparison))
    known = set(_vocabulary(real))
    tuned, asked = ([[word if word in known else _RARE for word in own] for own in texts] for texts in (made, real))
    model = Trigrams(tuned, len(known) + 2)
    return Measured(figures={"next_word_perplexity_trigram": model.perplexity(asked)})


def next_word_perplexity(comparison: Comparison) -> Measured:
    """Under a small neural model that learns from the samples alone, from random weights.

    Raises:
      MissingExtraError: without torch; the trigram's figure is then the only one.
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
    # One thread: such small products gain little from more, lose much where others use the cores, and give the same
    # figures on every number of cores.
    with threadpool_limits(1):
        perplexity, accuracy = WordModel(coded[0], len(codes) + 2, seed=comparison.seed).measure(coded[1])
    return Measured(figures={"next_word_perplexity": perplexity, "next_word_accuracy": accuracy})


def tuned_perplexity(comparison: Comparison) -> Measured:
    """Under a pretrained model that the user has named, tuned on the samples; nothing where none is named.

    Raises:
      InputError: it cannot be loaded.
      MissingExtraError: without torch or transformers.
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
    """Samples and held-out texts, cut to what these models take; a ceiling learns from no more than samples do."""
    most = min(_TEXTS, comparison.sample_count or _TEXTS)
    return _some(comparison.samples, most, comparison.seed), _some(comparison.held_out, _TEXTS, comparison.seed)


def _some(table: pa.Table, most: int, seed: int) -> pa.Table:
    rows = np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:most])
    return table.take(pa.array(rows))


def _vocabulary(texts: Sequence[Sequence[str]]) -> list[str]:
    """Words that are there twice at least, the most frequent first, equals by the alphabet."""
    counts = Counter(word for own in texts for word in own)
    ordered = sorted((-count, word) for word, count in counts.items() if count > 1)
    return [word for _, word in ordered[:_VOCABULARY]]
