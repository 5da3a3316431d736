"""Two language models in one recipe: journals of their own, one account, answers added up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.contracts.makers import without_maker
from pe_beam.driver.loop import evolve
from pe_beam.engine.populations import read_population
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.view import _answers
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests


def test_one_model_hands_over_to_another_and_a_kill_in_between_pays_for_nothing_twice(
    texts: dict[str, Any], tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = texts.pop("generator")
    vary = asked["vary"] | {"user": "Fill in, {tone}: {masked} like {examples}", "examples_from_candidates": 2}
    texts["generators"] = [
        {"name": "first", "share": 3, "to": 0, "generator": asked},
        {"name": "both", "share": 1, "generator": asked | {"vary": vary}},
    ]
    journals = set()
    real = Llm.vary

    def stop(self: Llm, parents: Any, step: Any, rngs: Any, *, chunk: Any = None) -> Any:
        journals.add(chunk.journal.prefix)
        made = real(self, parents, step, rngs, chunk=chunk)
        if len(journals) == 1 and step.iteration == 1:
            journals.add("stopped")
            raise RuntimeError("stopped")
        return made

    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(serve(texts, server))
        with monkeypatch.context() as patch:
            patch.setattr(Llm, "vary", stop)
            with pytest.raises(Exception, match="Generate failed"):
                evolve(recipe, tmp_path / "run", secret_file=secret_file)
        paid = len(server.requests())
        run = evolve(recipe, tmp_path / "run", secret_file=secret_file)
        assert paid == 48  # answers of the first variation were kept in the journal
        assert len(server.requests()) == 72
        evolve(recipe, tmp_path / "again", secret_file=secret_file, unroll=True)
    assert release_digests(tmp_path / "run") == release_digests(tmp_path / "again")
    assert {name.split("/")[-1] for name in journals} == {"both", "stopped"}
    made = [[without_maker(s)[0] for s in read_population(run, t)["state"].to_pylist()] for t in range(3)]
    assert made[0].count("first") == pytest.approx(18, abs=2)
    assert set(made[1] + made[2]) == {"both"}
    account = json.loads((tmp_path / "run/work/services/llm/account.json").read_text())
    assert account["spent"]["calls"] == 72


def test_a_report_adds_up_the_answers_of_all() -> None:
    notes = {"rejected_answers": {"empty": 2}, "stand_ins": 1}
    assert _answers(notes) == ("empty 2", 1)
    makers = {"one": {"new": 3, "summary": notes}, "two": {"new": 0}, "three": {"new": 4, "summary": notes}}
    assert _answers({"makers": makers}) == ("empty 4", 2)
    assert _answers({}) == ("", 0)
