import math

import pytest
import yaml

from pe_beam import registry
from pe_beam.errors import RecipeError
from pe_beam.privacy import accounting
from pe_beam.recipe.identity import differing_keys, run_id, to_yaml
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.plan import make_plan
from tests.whole_runs import RECIPES


def test_resolved_recipe_reads_back_to_itself(small, tmp_path):
    recipe = parse_recipe(small)
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe))
    assert load_recipe(path) == recipe
    assert run_id(load_recipe(path)) == run_id(recipe)


def test_what_does_not_shape_the_release_is_not_in_the_run_id(small):
    recipe = parse_recipe(small)
    small["execution"] = {"runner": "Other"}
    small["data"]["path"] = "elsewhere"
    small["privacy"]["keep_secret"] = True
    assert run_id(parse_recipe(small)) == run_id(recipe)
    small["seed"] = 1
    assert differing_keys(recipe, parse_recipe(small)) == ["seed"]


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("evolution", "sampels", 3, "did you mean 'samples'"),
        ("privacy", "epsilon", 0, "epsilon"),
        ("privacy", "epsilon", -1, "epsilon"),
        ("privacy", "epsilon", "nan", "NaN"),
        ("privacy", "epsilon", True, "number"),
        ("privacy", "delta", 1, "delta"),
        ("privacy", "unit", "person", "unit"),
        ("evolution", "samples", 0, "samples"),
        ("evolution", "degree", 2, "degree"),
        ("evolution", "degree", [0.5], "degree"),
        ("evolution", "threshold", "much", "threshold"),
        ("evolution", "variations", 0, "variations"),
        ("generator", "name", "text-rendr", "did you mean 'text-render'"),
        ("generator", "sidde", 16, "side"),
        ("embedder", "name", "none", "embedder.name"),
        ("data", "labels", ["0", "0"], "labels"),
        ("privacy", "weights", [1], "weights"),
        ("privacy", "label_counts", {"0": 1}, "label_counts"),
    ],
)
def test_a_bad_key_or_value_is_named(small, section, key, value, said):
    small[section][key] = value
    with pytest.raises(RecipeError) as caught:
        parse_recipe(small)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_numbers_may_be_what_float_reads(small):
    small["privacy"] |= {"epsilon": "inf", "delta": "1e-5"}
    small["evolution"]["samples"] = "4e1"
    recipe = parse_recipe(small)
    assert recipe.privacy.epsilon == math.inf
    assert recipe.evolution.samples == 40
    assert yaml.safe_load(to_yaml(recipe))["privacy"]["epsilon"] == "inf"


def test_overrides(tmp_path, small):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    recipe = load_recipe(path, ["privacy.epsilon=2", "evolution.threshold=auto"])
    assert recipe.privacy.epsilon == 2
    assert recipe.evolution.threshold == "auto"
    for bad in ("x", "privacy.epsilon.x=1"):
        with pytest.raises(RecipeError):
            load_recipe(path, [bad])
    for text in ("a: [", "- 1"):
        path.write_text(text)
        with pytest.raises(RecipeError):
            load_recipe(path)


@pytest.mark.parametrize("value", ["2020-13-01", "9" * 5000])
def test_an_override_that_yaml_cannot_read_is_named(tmp_path, small, value):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(small))
    with pytest.raises(RecipeError, match=r"--set data\.expected_records: a date that does not exist"):
        load_recipe(tmp_path / "r.yaml", [f"data.expected_records={value}"])


def test_plan_touches_no_data_and_says_what_is_spent(small):
    small["data"]["path"] = "no such data"
    plan = make_plan(parse_recipe(small))
    assert plan.epsilons[-1] == pytest.approx(1, abs=1e-6)
    assert plan.candidates == [40, 40, 40]
    assert plan.chance_of_noise == pytest.approx([0.1587] * 2, abs=1e-4)
    assert plan.generator_calls == 120
    small["data"]["expected_records"] = 10
    assert any("drowns" in warning for warning in make_plan(parse_recipe(small)).warnings)


def test_a_column_of_clients_that_no_promise_is_made_to_is_told(small):
    small["data"] |= {"source": "parquet", "columns": {"client": "patient"}}

    def told():
        return [each for each in make_plan(parse_recipe(small)).warnings if "data.columns.client" in each]

    assert len(told()) == 1 and told()[0].startswith("privacy.unit: record")
    small["privacy"]["unit"] = "client"
    assert not told()


def test_a_plan_takes_what_a_run_takes():
    assert make_plan("digits") == make_plan(load_recipe("digits"))
    with pytest.raises(
        RecipeError, match="recipe: dict is not allowed; wanted: the name of a shipped recipe, or a path"
    ):
        load_recipe({"name": "x"})


def test_shipped_recipes_are_accepted():
    recipes = sorted(RECIPES.glob("*.yaml"))
    assert recipes
    fonts = {"mnist-text-render": {"generator.fonts": "matplotlib"}}  # Google's are the user's to fetch
    for path in recipes:
        assert not make_plan(load_recipe(path, fonts.get(path.stem, {}))).warnings


def test_pooled_votes_need_a_fixed_threshold(small):
    small["evolution"] |= {"smoothing": 0.5, "threshold": "auto"}
    with pytest.raises(RecipeError, match="auto is for votes that are not pooled"):
        parse_recipe(small)


def test_labels_by_column_are_all_their_combinations(small):
    small["data"] |= {"source": "csv", "labels": {"kind": ["a", "b"], "stars": ["1", "2"]}}
    small["data"]["holdout"] = None
    recipe = parse_recipe(small)
    assert recipe.data.labels == ["a | 1", "a | 2", "b | 1", "b | 2"]
    assert recipe.data.columns == {"label": ["kind", "stars"]}
    small["data"]["columns"] = {"label": ["stars", "kind"]}
    assert parse_recipe(small).data.labels == ["1 | a", "1 | b", "2 | a", "2 | b"]
    for labels in ({"kind": ["a | b"], "stars": ["1"]}, {"kind": ["a"]}, {"kind": [True], "stars": ["1"]}):
        small["data"]["labels"] = labels
        with pytest.raises(RecipeError, match=r"data: .*labels"):
            parse_recipe(small)


def test_a_schema_is_for_modalities_that_take_one(small):
    small["data"]["schema"] = {"columns": {}}
    with pytest.raises(RecipeError, match=r"data\.schema: modality 'image' takes none"):
        parse_recipe(small)


@pytest.mark.parametrize(
    ("key", "part", "allowed"),
    [
        ("generator", {"name": "tabular"}, "text-render"),
        ("generator", {"name": "llm", "model": "m"}, "text-render"),
        ("embedder", {"name": "hashed-words"}, "pixels"),
        ("embedder", {"name": "tabular"}, "pixels"),
    ],
)
def test_a_part_of_another_modality_is_refused(small, key, part, allowed):
    small[key] = part
    with pytest.raises(
        RecipeError, match=rf"{key}\.name: '{part['name']}' is for modality .*'image'.*allowed: .*{allowed}"
    ):
        parse_recipe(small)


def test_an_unknown_name_is_told_those_of_the_modality(small):
    small["embedder"] = {"name": "hashed-word"}
    with pytest.raises(RecipeError, match=r"embedder\.name: 'hashed-word' is not known \(allowed: ") as told:
        parse_recipe(small)
    assert "pixels" in str(told.value)
    assert "hashed-words" not in str(told.value)


def test_parts_of_a_modality_are_those_that_say_so_or_go_with_any():
    assert "llm" in registry.names_for("generators", "text")
    assert not {"llm", "tabular"} & set(registry.names_for("generators", "image"))
    assert set(registry.names_for("embedders", "tabular")) & {"pixels", "tabular", "hashed-words"} == {"tabular"}
    assert registry.fits(object(), "image")  # a class that says nothing


def test_a_noise_multiplier_stands_in_place_of_epsilon(small):
    """Improved-diffusion PE on CIFAR-10 publishes sigma; 4 iterations of multiplier 2 are one of multiplier 1."""
    small["privacy"] = {"epsilon": None, "noise_multiplier": 2, "delta": 1e-5}
    small["evolution"]["iterations"] = 4
    plan = make_plan(parse_recipe(small))
    assert plan.schedule.noise_multipliers == (2.0,) * 4
    assert plan.epsilon == plan.epsilons[-1] == pytest.approx(accounting.spent_epsilon([1.0], 1e-5), rel=1e-6)
    small["privacy"]["noise_multiplier"] = [4, 3, 2, 1]
    assert make_plan(parse_recipe(small)).schedule.noise_multipliers == (4.0, 3.0, 2.0, 1.0)
    small["privacy"]["label_counts"] = {"budget": 0.2}
    found = make_plan(parse_recipe(small))
    assert found.schedule.noise_multipliers == (4.0, 3.0, 2.0, 1.0)
    assert found.epsilon > plan.epsilon


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilon": 1, "noise_multiplier": 2}, "both are given"),
        ({}, "neither is given"),
        ({"noise_multiplier": 0}, "above 0"),
        ({"noise_multiplier": []}, "above 0"),
        ({"noise_multiplier": "inf"}, "above 0"),
        ({"noise_multiplier": [1, 2, 3]}, r"3 numbers, but evolution\.iterations is 2"),
        ({"noise_multiplier": 2, "weights": [1, 1]}, "only with epsilon"),
        ({"noise_multiplier": 1e-3}, "comes to epsilon"),
        ({"noise_multiplier": 1e9}, "comes to epsilon"),
    ],
)
def test_a_noise_multiplier_that_does_not_do_is_refused(small, changes, said):
    small["privacy"] = {"delta": 1e-5, **changes}
    with pytest.raises(RecipeError, match=said):
        make_plan(parse_recipe(small))
