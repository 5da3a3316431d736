"""Texts: generator `llm` over remote and local language models, embedders, cleaning, metrics. No Beam.

openai, transformers, sentence-transformers and torch come with the extra `text`. They load only if a recipe uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker, Seen


def _view() -> View:
    from pe_beam.modalities.text.view import TextView

    return TextView()


def _lengths(comparison: Comparison) -> Measured:
    from pe_beam.modalities.text.metrics import lengths_and_words

    return lengths_and_words(comparison)


def _mauve(comparison: Comparison) -> Measured:
    from pe_beam.modalities.text.metrics import mauve

    return mauve(comparison)


def _trigram(comparison: Comparison) -> Measured:
    from pe_beam.modalities.text.perplexity import trigram_perplexity

    return trigram_perplexity(comparison)


def _perplexity(comparison: Comparison) -> Measured:
    from pe_beam.modalities.text.perplexity import next_word_perplexity

    return next_word_perplexity(comparison)


def _tuned(comparison: Comparison) -> Measured:
    from pe_beam.modalities.text.perplexity import tuned_perplexity

    return tuned_perplexity(comparison)


def _start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> Mapping[str, Any]:
    from pe_beam.modalities.text.start import start

    return start(asker, seen, data)


MODALITY = Modality(
    name="text",
    payload=pa.schema([("text", pa.string())]),
    view=_view,
    metrics=(_lengths, _mauve, _trigram, _perplexity, _tuned),
    metric_options={"language_model": "a pretrained causal model (folder or hub name) to tune on the samples"},
    start=_start,
)
