"""`evolution.search`: the ways to write it, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pe_beam.errors import RecipeError
from pe_beam.recipe.identity import differing_keys, run_id, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.sections.evolution import Approximate


def _with(small: dict[str, Any], search: Any, **execution: Any) -> Any:
    small["evolution"]["search"] = search
    small["execution"] = execution
    return parse_recipe(small)


def test_the_ways_to_write_it(small: dict[str, Any]) -> None:
    plain = run_id(parse_recipe(small))
    assert run_id(_with(small, "exact")) == run_id(_with(small, {"name": "exact"})) == plain
    short, long = _with(small, "approximate"), _with(small, {"name": "approximate", "neighbours": 32, "effort": 64})
    assert short == long == _with(small, {"effort": 64})
    assert short.evolution.approximate == Approximate()
    assert run_id(short) != plain
    assert run_id(_with(small, {"effort": 65})) != run_id(short)
    assert differing_keys(short, _with(small, {"effort": 65})) == ["evolution.search.effort"]
    import yaml

    assert parse_recipe(yaml.safe_load(to_yaml(short))) == short


@pytest.mark.parametrize("search", ["ivf", "pq", "hnsw", {"name": "ivf", "lists": 100}])
def test_other_indexes_are_refused_with_a_reason(small: dict[str, Any], search: Any) -> None:
    with pytest.raises(RecipeError, match=r"evolution\.search: .*IVF changed up to 400 of 4,000 votes"):
        _with(small, search)


@pytest.mark.parametrize("search", [7, None, [], {"name": "approximate", "lists": 3}, {"effort": 0}, {"neighbours": 1}])
def test_what_is_no_search_is_refused_by_its_key(small: dict[str, Any], search: Any) -> None:
    with pytest.raises(RecipeError, match=r"evolution\.search"):
        _with(small, search)


def test_contradictions_are_refused(small: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"execution\.search_engine: proposes for exact search only"):
        _with(small, "approximate", search_engine="faiss")
    _with(small, "exact", search_engine="faiss")
    small["evolution"]["votes_per_record"] = 65
    with pytest.raises(RecipeError, match=r"search\.effort: votes_per_record at least"):
        _with(small, "approximate")


def test_a_plan_warns(small: dict[str, Any]) -> None:
    assert not any("approximate" in warning for warning in make_plan(parse_recipe(small)).warnings)
    assert any("approximate votes now and then miss" in w for w in make_plan(_with(small, "approximate")).warnings)
