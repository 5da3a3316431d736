"""Metrics of texts and their place in a report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.contracts.metric import Comparison
from pe_beam.modalities.text import MODALITY
from pe_beam.modalities.text.metrics import lengths_and_words, mauve, mauve_of
from pe_beam.modalities.text.perplexity import trigram_perplexity
from pe_beam.modalities.text.trigrams import Trigrams
from pe_beam.modalities.text.view import TextView
from pe_beam.testing import check_view


def _comparison(samples, held_out):
    tables = [pa.table({"label": pa.nulls(len(t), pa.string()), "text": t}) for t in (samples, held_out)]
    return Comparison(
        iteration=1,
        samples=tables[0],
        held_out=tables[1],
        training=None,
        labels=None,
        recipe={"embedder": {"name": "hashed-words", "dimension": 64}},
        seed=0,
    )


SOUP = [
    f"the soup was {x} and the bread {y}" for x in ("cold", "hot", "thin") for y in ("fine", "dry", "old", "new")
] * 5
FILM = [f"a film of {x} with {y}" for x in ("war", "love", "loss") for y in ("songs", "wit", "no end", "stars")] * 5


def test_mauve_is_one_for_the_same_and_near_zero_for_what_has_nothing_in_common():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 16)), rng.normal(size=(400, 16))
    assert mauve_of(a, b) > 0.75
    assert mauve_of(a, a) == pytest.approx(1, abs=0.02)
    assert mauve_of(a + 8, b - 8) < 0.05
    assert mauve_of(a, b) == mauve_of(a, b)
    assert mauve_of(a + 0.5, b) < mauve_of(a, b)


def test_trigrams_are_probabilities():
    model = Trigrams([["a", "b", "a"], ["b", "b"]], size=3)  # a, b and the end
    for context in [("<s>", "<s>"), ("a", "b"), ("b", "b"), ("x", "y")]:
        assert sum(model.probability((*context, word)) for word in ("a", "b", "</s>")) == pytest.approx(1)


def test_nearer_texts_have_better_figures():
    near, far = _comparison(SOUP[:30], SOUP[30:]), _comparison(FILM, SOUP[30:])
    for metric, better in ((mauve, 1), (trigram_perplexity, -1)):
        name = next(iter(metric(near).figures))
        assert better * metric(near).figures[name] > better * metric(far).figures[name]
    figures = lengths_and_words(far).figures
    assert figures["vocabulary_distance"] > lengths_and_words(near).figures["vocabulary_distance"]
    assert figures["different_texts"] == pytest.approx(12 / 60)
    assert lengths_and_words(_comparison(SOUP, SOUP)).figures["length_ks"] == 0


def test_changed_words_are_marked_and_hostile_ones_escaped():
    view = TextView()
    record = {"candidate_id": 2, "parent_id": 1, "label": None, "origin": "varied", "text": "a <b>new</b> room"}
    shown = view.fragment(record, record | {"text": "a good room"})
    assert "<ins>&lt;b&gt;new&lt;/b&gt;</ins>" in shown and "<del>good</del>" in shown
    assert view.alt(record | {"text": "w " * 40}).endswith("…")
    check_view(MODALITY, [record, record | {"candidate_id": 3, "text": "x" * 3000}])
