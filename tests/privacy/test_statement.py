import math

import pytest

from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy import accounting
from pe_beam.privacy.statement import compose_runs, statement


def test_runs_add_up_at_the_largest_delta():
    one = ("record", "add-or-remove-one", 1e-5, [10.0] * 4)
    two = ("record", "add-or-remove-one", 1e-6, [20.0] * 4)
    epsilon, delta = compose_runs([one, two])
    assert delta == 1e-5
    assert epsilon == accounting.spent_epsilon([10.0] * 4 + [20.0] * 4, 1e-5)
    assert epsilon > compose_runs([one])[0]
    assert compose_runs([("record", "replace-one", 1e-5, [])]) == (0.0, 1e-5)
    assert compose_runs([one, ("record", "add-or-remove-one", 1e-6, [0.0])])[0] == math.inf


@pytest.mark.parametrize(
    ("other", "name"),
    [(("client", "replace-one", 1e-5, [1.0]), "unit"), (("record", "add-or-remove-one", 1e-5, [1.0]), "adjacency")],
)
def test_mixed_promises_are_refused(other, name):
    with pytest.raises(InputError, match=name):
        compose_runs([("record", "replace-one", 1e-5, [1.0]), other])


def test_no_runs_and_nan_are_refused():
    with pytest.raises(InputError):
        compose_runs([])
    fine = ("record", "replace-one", 1e-5, [1.0])
    with pytest.raises(RecipeError, match="delta"):
        compose_runs([fine, ("record", "replace-one", math.nan, [1.0])])


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("adjacency", ["add-or-remove-one", "replace-one"])
def test_the_statement_names_what_it_has_to(unit, adjacency):
    text = statement(epsilon=1.2345601, delta=1e-5, adjacency=adjacency, unit=unit, iterations=10)
    relation = "exchanged" if adjacency == "replace-one" else "more or fewer"
    for part in ("(1.23457, 1e-05)", adjacency, unit, relation, "10 noisy", "computational", "one release per secret"):
        assert part in text
    assert f"so {'one record is' if unit == 'record' else 'all the records of one client are'} protected)" in text
    for part in ("add up", "trained on is not covered"):
        assert part in text
    assert "supplied" not in text
    given = statement(epsilon=1, delta=1e-5, adjacency=adjacency, unit=unit, iterations=1, supplied_secret=True)
    assert "(1, 1e-05)" in given
    assert "supplied by the user" in given


def test_without_noise_it_says_so():
    text = statement(epsilon=math.inf, delta=1e-5, adjacency="replace-one", unit="record", iterations=2)
    assert text.startswith("NOT PRIVATE")
    for bad in (math.nan, -1.0):
        with pytest.raises(RecipeError):
            statement(epsilon=bad, delta=1e-5, adjacency="replace-one", unit="record", iterations=2)
