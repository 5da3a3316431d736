"""The shipped recipes of Aug-PE as they are, but for size: real requests of each, held against the published settings.

Their data and hubs cannot be had here: private texts are made up with the recipe's columns and labels, embedders are
hashed words, and the service is the tests' own server.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.engine import populations
from pe_beam.engine.run import Run, open_run
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.models import Recipe
from tests.modalities.text.server import WORDS, Served
from tests.modalities.text.tiny_gpt2 import save_tiny_gpt2
from tests.whole_runs import RECIPES

ITERATIONS, PER_LABEL = 2, 2
# PAPERS.md, section 4: name -> (temperature, tokens of a random text, mask share, sd of words, tokens a word, examples)
CHAT = {
    "reviews-openai": (1.4, 128, 0.5, 20, 1.2, 3),
    "reviews-vllm": (1.2, 1000, 0.5, 30, 5, 1),
    "abstracts-openai": (1.2, 1000, 0.6, 36, 5, 0),
}


def _labels(recipe: Recipe) -> list[list[str]]:
    """The parts of each combination."""
    return [label.split(" | ") for label in recipe.data.labels or [""]]


def _private(recipe: Recipe, path: Path) -> None:
    """A few texts of each combination of labels."""
    rng = np.random.default_rng(0)
    labels = _labels(recipe)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label1", "label2"])
        for label in labels * 3:
            writer.writerow([" ".join(rng.choice(WORDS, 30)), *label, *[""] * (2 - len(label))])


def _run(name: str, folder: Path, **changes: Any) -> Run:
    """The recipe at a small size; published are k, L, selection, prompts, temperatures and lengths."""
    published = load_recipe(RECIPES / f"{name}.yaml")
    assert published.evolution.iterations == 10
    fold = 1 + published.evolution.variations
    assert published.evolution.population == published.evolution.samples * fold
    _private(published, folder / "private.csv")
    samples = PER_LABEL * len(_labels(published))
    recipe = load_recipe(
        RECIPES / f"{name}.yaml",
        {
            "data.path": str(folder / "private.csv"),
            "data.holdout": None,
            "embedder": {"name": "hashed-words", "dimension": 32},
            "evolution.iterations": ITERATIONS,
            "evolution.samples": samples,
            "evolution.population": samples * fold,
            **changes,
        },
    )
    evolve(recipe, folder / "run")
    return open_run(folder / "run")


def _populations(run: Run, name: str) -> None:
    """Sizes, and that each selected candidate is there with its variations (L in all)."""
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    fold = 1 + recipe.evolution.variations
    samples = PER_LABEL * len(_labels(recipe))
    sizes = [populations.read_population(run, iteration).num_rows for iteration in range(ITERATIONS + 1)]
    assert sizes == [samples * fold] * ITERATIONS + [samples]
    first = populations.read_population(run, 1).to_pylist()
    kept = {row["candidate_id"] for row in first if row["origin"] == "kept"}
    parents, children = np.unique([row["parent_id"] for row in first if row["origin"] != "kept"], return_counts=True)
    assert set(parents) == kept and (children == fold - 1).all()


@pytest.mark.parametrize("name", CHAT)
def test_requests_of_chat_recipes_are_the_published_ones(name: str, tmp_path: Path) -> None:
    heat, most, share, sd, ratio, examples = CHAT[name]
    record = tmp_path / "bodies.jsonl"
    with Served(tmp_path / "log", command=("tests.modalities.text.recording_server", str(record)), words=40) as server:
        run = _run(
            name,
            tmp_path,
            **{
                "generator.model": "tiny",
                "execution.llm.endpoints": [{"base_url": server.url, "key_env": None}],
            },
        )
    _populations(run, name)
    bodies = [json.loads(line) for line in record.read_text().splitlines()]
    assert {(body["temperature"], body["top_p"]) for body in bodies} == {(heat, 1.0)}
    vary = [body for body in bodies if "Fill in the blanks" in body["messages"][-1]["content"]]
    randoms = [body for body in bodies if body not in vary]
    assert randoms and {body["max_tokens"] for body in randoms} == {most}
    assert {len(body["messages"]) for body in randoms} == {2}
    assert {len(body["messages"]) for body in vary} == {2 + 2 * examples}
    words = np.array([int(re.findall(r"(\d+) words", body["messages"][-1]["content"])[-1]) for body in vary])
    assert words.min() >= 25
    assert [body["max_tokens"] for body in vary] == [min(1200, int(ratio * count)) for count in words]
    assert abs(np.median(words) - 40) < sd / 2  # parents have 40 words
    blanks = sum(body["messages"][-1]["content"].split().count("_") for body in vary)
    assert blanks / (40 * len(vary)) == pytest.approx(share, abs=0.06)
    _prompts_have_all_labels(run, randoms)


def _prompts_have_all_labels(run: Run, randoms: list[dict[str, Any]]) -> None:
    """Each combination of labels is asked for, and no slot is left open."""
    asked = "\n".join(body["messages"][-1]["content"] for body in randoms)
    for label in _labels(run.recipe):
        assert any(all(part in line for part in label) for line in asked.splitlines())
    assert "{" not in asked


def test_the_local_recipe(tmp_path: Path) -> None:
    """GPT-2 goes on from a text; its hub cannot be had, so a small one takes its place."""
    folder = save_tiny_gpt2(tmp_path / "gpt2", WORDS, positions=512)
    changes = {"generator.model": folder, "generator.local.dtype": "float32"}
    run = _run("reviews-huggingface", tmp_path, **changes)
    _populations(run, "reviews-huggingface")
    assert len(set(populations.read_population(run, ITERATIONS)["text"].to_pylist())) > 50
