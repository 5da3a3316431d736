"""Embedder `hashed-words`: hashes words and pairs of words. It needs no model and no extra; for trials and tests.

Where no spaces part words, characters count as words. It uses which words are there, and not what they mean.
A learned embedder gives better samples.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.modalities.text.checks import spread, usable
from pe_beam.modalities.text.words import SINGLE
from pe_beam.numbers import Whole

_PATTERN = rf"(?u)[{SINGLE}]|[^\W{SINGLE}]+|[^\w\s]"


class HashedWordsOptions(contracts.Options):
    """Options of `hashed-words`."""

    dimension: Whole = Field(256, ge=2, le=65536, description="length of the vectors")
    ngrams: Whole = Field(2, ge=1, le=5, description="longest run of words that counts as one feature")


class HashedWords(contracts.Embedder):
    """Signed hashing (Weinberger et al. 2009) of word n-grams, scaled to length 1, by HashingVectorizer."""

    modality = "text"
    Options: ClassVar[type[contracts.Options]] = HashedWordsOptions

    def __init__(self, options: BaseModel) -> None:
        """Takes HashedWordsOptions."""
        from sklearn.feature_extraction.text import HashingVectorizer

        own = HashedWordsOptions.model_validate(options.model_dump())
        self.dimension = own.dimension
        self._vectorizer = HashingVectorizer(
            n_features=own.dimension, ngram_range=(1, own.ngrams), token_pattern=_PATTERN, norm="l2"
        )

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the column `text`."""
        rows, texts, faults = usable(records["text"].to_pylist())
        if not texts:
            return spread(np.zeros((0, self.dimension)), [], records.num_rows, faults)
        return spread(self._vectorizer.transform(texts).toarray(), rows, records.num_rows, faults)
