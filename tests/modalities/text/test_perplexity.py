"""Next-word perplexity and accuracy: better for a model that has learnt from texts like the held-out ones."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from pe_beam.contracts.metric import Comparison
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.modalities.text.perplexity import next_word_perplexity, trigram_perplexity, tuned_perplexity
from pe_beam.modalities.text.word_model import _PIECE, WordModel, _pieces
from tests.modalities.text.tiny_gpt2 import save_tiny_gpt2

WORDS = ["soup", "film", "cold", "loud", "old", "fine", "and", "the", "was", "of", "with", "table", "actor"]


def _soup(rng: random.Random) -> str:
    return f"the {rng.choice(['soup', 'table'])} was {rng.choice(['cold', 'old', 'fine'])} and the table was fine"


def _film(rng: random.Random) -> str:
    return f"with the {rng.choice(['film', 'actor'])} of old and {rng.choice(['loud', 'cold'])} film"


def _shuffled(rng: random.Random) -> str:
    words = _soup(rng).split()
    return " ".join(rng.sample(words, len(words)))


def _texts(make, count, seed):
    rng = random.Random(seed)
    return [make(rng) for _ in range(count)]


def _comparison(samples, held_out, **more):
    tables = [pa.table({"label": pa.nulls(len(texts), pa.string()), "text": texts}) for texts in (samples, held_out)]
    plain = dict.fromkeys(("iteration", "training", "labels"))
    return Comparison(**plain, samples=tables[0], held_out=tables[1], recipe={}, seed=5, **more)


LIKE, SHUFFLED, OTHER = (_texts(make, 80, seed) for make, seed in ((_soup, 1), (_shuffled, 2), (_film, 3)))
HELD_OUT = _texts(_soup, 60, 4)


def test_the_word_model_ranks_ceiling_shuffled_words_and_other_texts():
    like, shuffled, other = (
        next_word_perplexity(_comparison(texts, HELD_OUT)).figures for texts in (LIKE, SHUFFLED, OTHER)
    )
    assert like["next_word_perplexity"] < 2 < shuffled["next_word_perplexity"] < other["next_word_perplexity"]
    assert like["next_word_accuracy"] > shuffled["next_word_accuracy"] + 0.2 > other["next_word_accuracy"]
    # No model can beat what is truly open in a text: 2 of its 10 places, with log(2) and log(3).
    assert like["next_word_perplexity"] > math.exp((math.log(2) + math.log(3)) / 10) * 0.98
    trigram = [trigram_perplexity(_comparison(texts, HELD_OUT)).figures for texts in (LIKE, SHUFFLED, OTHER)]
    values = [figures["next_word_perplexity_trigram"] for figures in trigram]
    assert values == sorted(values)


def test_the_same_seed_gives_the_same_figures_whatever_else_draws():
    import torch

    first = next_word_perplexity(_comparison(LIKE[:20], HELD_OUT)).figures
    torch.rand(7)
    state = torch.get_rng_state()
    assert next_word_perplexity(_comparison(LIKE[:20], HELD_OUT)).figures == first
    assert torch.equal(torch.get_rng_state(), state)


def test_a_ceiling_learns_from_no_more_texts_than_there_are_samples():
    all_of_them = next_word_perplexity(_comparison(LIKE, HELD_OUT)).figures
    few = next_word_perplexity(_comparison(LIKE, HELD_OUT, sample_count=10)).figures
    assert few["next_word_perplexity"] > all_of_them["next_word_perplexity"]


def test_every_word_and_end_is_asked_for_once():
    texts = [np.arange(2, 2 + size) for size in (0, 1, _PIECE - 1, _PIECE, _PIECE + 1, 3 * _PIECE)]
    asked = [code for piece in _pieces(texts) for code in piece[1:]]
    assert asked == [code for text in texts for code in (*text, 0)]


@pytest.mark.parametrize("texts", [["one"], ["", "", ""], ["a b"] * 2])
def test_few_and_empty_samples_are_measured_too(texts):
    figures = next_word_perplexity(_comparison(texts, HELD_OUT)).figures
    assert all(math.isfinite(value) for value in figures.values())


def test_its_time_is_bounded_by_words_seen(monkeypatch):
    """A tenth of the bounds takes a tenth of the time; docs/text.md has the whole."""
    monkeypatch.setattr("pe_beam.modalities.text.word_model._SEEN_WORDS", 18_000)
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, 2002, 60) for _ in range(1000)]
    began = time.process_time()
    with threadpool_limits(1):
        WordModel(texts, 2002, seed=0)
    assert time.process_time() - began < 60


def test_without_torch_the_trigram_is_left_and_the_message_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pe_beam.modalities.text.word_model", None)
    with pytest.raises(MissingExtraError, match=r"next_word_perplexity needs torch; install pe_beam\[text\]"):
        next_word_perplexity(_comparison(LIKE, HELD_OUT))
    assert trigram_perplexity(_comparison(LIKE, HELD_OUT)).figures


def test_a_named_model_is_tuned_on_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "pe_beam.modalities.text.tuned_model._RATE", 5e-3
    )  # its weights are random: 30 steps have to do
    folder = save_tiny_gpt2(tmp_path, WORDS)
    found = {
        name: tuned_perplexity(_comparison(texts, HELD_OUT, options={"language_model": folder})).figures
        for name, texts in (("like", LIKE), ("other", OTHER))
    }
    assert found["like"]["tuned_model_perplexity"] < found["other"]["tuned_model_perplexity"] / 1.2
    assert found["like"]["tuned_model_accuracy"] > found["other"]["tuned_model_accuracy"]
    assert tuned_perplexity(_comparison(LIKE, HELD_OUT)).figures == {}
    again = tuned_perplexity(_comparison(LIKE, HELD_OUT, options={"language_model": folder})).figures
    assert again == found["like"]


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"language_model: '.*' cannot be loaded"):
        tuned_perplexity(dataclasses.replace(_comparison(LIKE, HELD_OUT), options={"language_model": str(tmp_path)}))
