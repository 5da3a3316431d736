"""Several generators in one recipe: what is refused, what stays as it was, and who makes which row."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import yaml
from jsonschema import Draft202012Validator

from pe_beam import contracts
from pe_beam.contracts.generator import Chunk, PaidGenerator, Step
from pe_beam.contracts.makers import with_maker, without_maker
from pe_beam.driver.parts import check_parts
from pe_beam.driver.public import WITHHELD, public_recipe
from pe_beam.errors import RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.recipe.costs import estimate_costs
from pe_beam.recipe.identity import differing_keys, run_id, to_plain, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.makers import expected_shares
from pe_beam.recipe.mixed import Mixed, _chosen
from pe_beam.recipe.parts import new_generator
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.reference import json_schema
from pe_beam.recipe.sections.part import Maker
from pe_beam.storage import open_folder
from pe_beam.testing import check_generator
from tests.modalities.text.recipes import TEXTS

SMALL_ONE: dict[str, Any] = {"name": "small", "generator": {"name": "text-render", "side": 8}, "share": 0.3}
LARGE_ONE: dict[str, Any] = {"name": "large", "generator": {"name": "text-render", "side": 16}, "share": 0.7}
PAINT: dict[str, Any] = {
    "name": "paint",
    "generator": {"name": "diffusers", "model": "nowhere", "random": {"steps": 4}},
}
STEP = Step(iteration=1, iterations=2, degree=0.5)


@pytest.fixture
def several(small: dict[str, Any]) -> dict[str, Any]:
    """A recipe with two generators, as plain data."""
    del small["generator"]
    small["generators"] = [copy.deepcopy(SMALL_ONE), copy.deepcopy(LARGE_ONE)]
    return small


def mixed(recipe: dict[str, Any]) -> Mixed:
    made = new_generator(parse_recipe(recipe))
    assert isinstance(made, Mixed)
    return made


def rngs(count: int, purpose: str = "random") -> list[np.random.Generator]:
    return [keyed_rng(0, 1, i, purpose) for i in range(count)]


def makers_of(table: pa.Table) -> list[str]:
    return [json.loads(state)["maker"] for state in table["state"].to_pylist()]


def test_a_recipe_of_one_generator_stays_what_it_is(small: Any) -> None:
    recipe = parse_recipe(small)
    assert run_id(parse_recipe(small | {"generators": None})) == run_id(recipe)
    assert "generators" not in public_recipe(recipe)
    assert public_recipe(recipe)["generator"]["side"] == 16


def test_several_are_read_back_and_are_part_of_the_id(several: Any) -> None:
    recipe = parse_recipe(several)
    assert parse_recipe(to_plain(recipe)) == recipe
    assert "share: 0.7" in to_yaml(recipe)
    several["generators"][0]["share"] = 0.4
    assert differing_keys(recipe, parse_recipe(several)) == ["generators"]
    several["generators"][0] |= {"share": 0.3, "from": 0, "to": None}
    assert run_id(parse_recipe(several)) == run_id(recipe)


def test_what_may_be_secret_among_their_options_is_withheld(several: Any) -> None:
    several["generators"][0]["generator"]["fonts"] = "/home/a-secret/fonts"
    shown = public_recipe(parse_recipe(several))
    assert "generator" not in shown
    assert [maker["name"] for maker in shown["generators"]] == ["small", "large"]
    assert shown["generators"][0]["generator"]["side"] == 8
    assert "a-secret" not in json.dumps(shown)
    assert WITHHELD in json.dumps(shown)


def test_the_schema_knows_them(several: Any) -> None:
    validator = Draft202012Validator(json_schema())
    for plain in (several, to_plain(parse_recipe(several))):
        assert [error.message for error in validator.iter_errors(plain)] == []
    several["generators"][1]["generator"]["sides"] = 3
    assert list(validator.iter_errors(several))
    del several["generators"]
    assert list(validator.iter_errors(several))


@pytest.mark.parametrize(
    ("makers", "said"),
    [
        ([], "generators"),
        (
            [SMALL_ONE | {"share": 0}, LARGE_ONE],
            "generators.0.share: 0 input should be greater than or equal to 0.000001",
        ),
        ([SMALL_ONE | {"share": "inf"}, LARGE_ONE], "generators.0.share"),
        ([SMALL_ONE | {"share": "nan"}, LARGE_ONE], "generators.0.share"),
        ([SMALL_ONE | {"shares": 1}, LARGE_ONE], "generators.0.shares: unknown key; did you mean 'share'"),
        ([SMALL_ONE | {"name": "A/b"}, LARGE_ONE], "generators.0.name"),
        ([SMALL_ONE, SMALL_ONE], "'small' is the name of two"),
        ([SMALL_ONE | {"from": 1}, LARGE_ONE | {"from": 2}], "none is open in iteration 0"),
        ([SMALL_ONE | {"to": 0}, LARGE_ONE | {"from": 2}], "none is open in iteration 1; from and to may leave no gap"),
        ([SMALL_ONE, LARGE_ONE | {"to": 1}, PAINT | {"to": 0}], "the phase of paint is over in iteration 1"),
        ([SMALL_ONE, LARGE_ONE | {"to": 3}], "large is open from 0 to 3; two iterations in order, of 0 .* to 2, are"),
        ([SMALL_ONE, LARGE_ONE | {"from": 2, "to": 1}], "large is open from 2 to 1"),
        ([SMALL_ONE | {"to": 0}, LARGE_ONE], "phase of small is over in iteration 1, .*allowed: diffusers"),
        ([SMALL_ONE, PAINT | {"from": 1}], "paint would never be asked: .* no other is over"),
        ([SMALL_ONE, PAINT, LARGE_ONE | {"from": 1}], "large would never be asked: .* only what it made itself"),
        ([SMALL_ONE, {"name": "words", "generator": {"name": "llm", "model": "m"}}], "generators.1.generator"),
        ([SMALL_ONE, {"name": "rows", "generator": {"name": "tabular"}}], "is for modality 'tabular', not for 'image'"),
        ([SMALL_ONE, {"name": "x", "generator": {"name": "text-rendr"}}], r"generators.1.generator.name: .*did you"),
        ([SMALL_ONE, {"name": "x", "generator": {"name": "text-render", "sidde": 3}}], "generators.1.generator.sidde"),
        ([SMALL_ONE, {"name": "x"}], "generators.1.generator: field required"),
    ],
)
def test_what_cannot_be_is_refused_in_words(several: Any, makers: Any, said: str) -> None:
    several["generators"] = makers
    with pytest.raises(RecipeError, match=said):
        parse_recipe(several)


def test_one_or_several_but_not_both_and_not_neither(several: Any, small: Any) -> None:
    with pytest.raises(RecipeError, match="both are given"):
        parse_recipe(several | {"generator": {"name": "text-render"}})
    del several["generators"]
    with pytest.raises(RecipeError, match="several of them as generators; neither is given"):
        parse_recipe(several)


def test_what_a_generator_itself_refuses_is_told_with_its_maker(several: Any) -> None:
    several["generators"][1]["generator"]["size"] = [2, 1]
    with pytest.raises(RecipeError, match=r"generators, large: generator.size"):
        new_generator(parse_recipe(several))


def test_what_a_maker_raises_later_is_told_with_its_name(several: Any, monkeypatch: Any) -> None:
    both = mixed(several)
    monkeypatch.setattr(TextRender, "random", lambda self, labels, rngs: pa.table({"state": []}))
    with pytest.raises(StageError, match=r"generators, .*: generator: 0 rows came back where [1-8] were asked for"):
        both.random(["0"] * 8, rngs(8))


def test_one_that_asks_a_service_makes_the_whole_a_recipient() -> None:
    texts = copy.deepcopy(TEXTS)
    texts["privacy"]["epsilon"] = "inf"
    texts["generators"] = [{"name": "only", "generator": texts.pop("generator")}]
    with pytest.raises(RecipeError, match="a remote service would send private data out"):
        check_parts(parse_recipe(texts))


def test_marginals_want_one_generator(several: Any) -> None:
    several["privacy"]["marginals"] = {"budget": 0.1}
    with pytest.raises(RecipeError, match=r"privacy\.marginals: with several generators"):
        new_generator(parse_recipe(several))


def test_the_contract_of_generators_holds(several: Any) -> None:
    check_generator(mixed(several), MODALITY, labels=[str(label) for label in range(10)])


@pytest.mark.parametrize("ids", [list(range(40)), None])
def test_each_row_is_what_its_maker_alone_would_have_made(several: Any, ids: Any) -> None:
    made_of_both, labels = mixed(several), [str(i % 10) for i in range(40)]
    alone = {
        name: TextRender(TextRenderOptions(side=side), labels=labels) for name, side in (("small", 8), ("large", 16))
    }
    chunk = Chunk(ids=ids)
    both = made_of_both.random(labels, rngs(40), chunk=chunk)
    assert set(makers_of(both)) == {"small", "large"}
    whole = {name: part.random(labels, rngs(40)) for name, part in alone.items()}
    parents = both.append_column("label", pa.array(labels))
    varied = made_of_both.vary(parents, STEP, rngs(40, "vary"), chunk=chunk)
    assert makers_of(varied) == makers_of(both)
    for row, name in enumerate(makers_of(both)):
        assert both["image"][row] == whole[name]["image"][row]
        assert without_maker(both["state"][row].as_py()) == (name, whole[name]["state"][row].as_py())
        own = whole[name].slice(row, 1).append_column("label", pa.array([labels[row]]))
        again = alone[name].vary(own, STEP, [keyed_rng(0, 1, row, "vary")])
        assert varied["image"][row] == again["image"][0]
        assert without_maker(varied["state"][row].as_py())[1] == again["state"][0].as_py()


def test_shares_are_met_and_none_is_empty_by_chance(several: Any) -> None:
    several["generators"] = [SMALL_ONE | {"share": 1}, LARGE_ONE | {"share": 18}, PAINT | {"share": 1}]
    for seed in range(50):
        several["seed"] = seed
        recipe = parse_recipe(several)
        both = mixed(several)
        draws = both._draws(0, ["3"] * 40, [], Chunk(ids=range(100 * seed, 100 * seed + 40)))  # type: ignore[arg-type]
        counts = np.bincount(_chosen(draws, expected_shares(recipe)[0]), minlength=3)
        assert counts[0] >= 1
        assert counts[2] >= 1
        assert np.abs(counts - 40 * np.array([0.05, 0.9, 0.05])).max() <= 3


def test_labels_and_iterations_differ_and_a_cut_changes_nothing(several: Any) -> None:
    both, labels = mixed(several), ["0"] * 16 + ["1"] * 16
    whole = both.random(labels, rngs(32), chunk=Chunk(ids=range(32)))
    for first, last in ((0, 5), (5, 20), (20, 32)):
        part = both.random(labels[first:last], rngs(32)[first:last], chunk=Chunk(ids=range(first, last)))
        assert part.equals(whole.slice(first, last - first).combine_chunks())
    draws = [both._draws(t, labels, [], Chunk(ids=[7] * 32)) for t in (0, 1)]
    assert len({int(draws[0][0]), int(draws[0][31]), int(draws[1][0])}) == 3


class Asked(PaidGenerator):
    """Remembers what it is asked and told; its answers are paid for."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = contracts.Options
    varies_any = True
    chunk_size = 7

    def __init__(self, options: Any = None, *, labels: Any = ()) -> None:
        self.told: list[Any] = []

    def random(self, labels: Any, rngs: Any, *, chunk: Chunk | None = None) -> pa.Table:
        self.told.append(chunk)
        return pa.table({"image": pa.array([b"made"] * len(labels)), "state": pa.nulls(len(labels), pa.string())})

    def vary(self, parents: pa.Table, step: Step, rngs: Any, *, chunk: Chunk | None = None) -> pa.Table:
        self.told.append((parents, chunk))
        return pa.table({"state": pa.nulls(len(parents), pa.string()), "image": pa.array([b"varied"] * len(parents))})


def test_a_candidate_is_handed_over_with_its_payload_alone(tmp_path: Any) -> None:
    letters = TextRender(TextRenderOptions(side=8), labels=["a"])
    taker, other = Asked(), Asked()
    plain = {"generator": {"name": "text-render"}}
    makers = [
        Maker.model_validate({"name": "letters", "to": 0, **plain}),
        Maker.model_validate({"name": "taker", "share": 3, **plain}),
        Maker.model_validate({"name": "other", "from": 1, **plain}),
    ]
    both = Mixed(makers, [letters, taker, other], labels=["a"], seed=0)
    assert both.chunk_size == 7
    folder = open_folder(tmp_path)
    first = both.random(["a"] * 40, rngs(40), chunk=Chunk(journal=folder, ids=range(40)))
    counts = [makers_of(first).count(name) for name in ("letters", "taker", "other")]
    assert counts[2] == 0
    assert abs(counts[1] - 30) <= 2
    assert taker.told[0].journal.name("x") == "taker/x"
    parents = first.append_column("label", pa.array(["a"] * 40))
    about = Chunk(journal=folder, population=lambda: parents, ids=range(40, 80))
    second = both.vary(parents, STEP, rngs(40, "vary"), chunk=about)
    before, after = makers_of(first), makers_of(second)
    assert set(after) == {"taker", "other"}
    assert all(new == "taker" for old, new in zip(before, after, strict=True) if old == "taker")
    given, chunk = other.told[0]
    assert given["state"].null_count == given.num_rows > 0
    rows = [row for row, name in enumerate(after) if name == "other"]
    assert given["image"].to_pylist() == [first["image"][row].as_py() for row in rows]
    seen = chunk.population()
    assert seen["state"].null_count == 40
    assert chunk.population() is seen
    assert chunk.journal.name("x") == "other/x"


def test_what_was_not_made_by_a_maker_of_the_recipe_is_refused(several: Any) -> None:
    both = mixed(several)
    for state in (None, "{}", with_maker("stranger", None)):
        parents = pa.table({"state": pa.array([state], pa.string()), "image": [b""], "label": ["0"]})
        with pytest.raises(StageError, match="restore the release"):
            both.vary(parents, STEP, rngs(1))


def test_expected_shares_follow_the_phases(several: Any) -> None:
    several["evolution"]["iterations"] = 3
    several["generators"] = [SMALL_ONE | {"to": 0}, LARGE_ONE | {"to": 1}, PAINT | {"share": 1, "from": 1}]
    found = expected_shares(parse_recipe(several))
    np.testing.assert_allclose(found, [[0.3, 0.7, 0], [0, 0.7, 0.3], [0, 0, 1], [0, 0, 1]])


def test_costs_are_those_of_all_that_are_paid_for() -> None:
    texts = copy.deepcopy(TEXTS)
    one = estimate_costs(parse_recipe(texts))
    asked = texts.pop("generator")
    texts["generators"] = [
        {"name": "brief", "share": 1, "generator": asked, "to": 1},
        {"name": "long", "share": 3, "generator": asked},
    ]
    two = estimate_costs(parse_recipe(texts))
    assert one is not None
    assert two == one
    texts["generators"][1]["generator"] = asked | {"vary": asked["vary"] | {"sampling": {"max_tokens": 600}}}
    more = estimate_costs(parse_recipe(texts))
    assert more is not None
    assert more.output_tokens > one.output_tokens
    assert make_plan(parse_recipe(texts)).generator_calls == 72


def test_the_example_of_the_docs_is_a_recipe(several: Any) -> None:
    text = (Path(__file__).parents[2] / "docs/choosing.md").read_text(encoding="utf-8")
    [block] = [b for b in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL) if "generators:" in b]
    several["evolution"]["iterations"] = 4
    recipe = parse_recipe(several | yaml.safe_load(block))
    np.testing.assert_allclose(expected_shares(recipe)[:, 1], [0.3, 0.3, 0.3, 1, 1])
