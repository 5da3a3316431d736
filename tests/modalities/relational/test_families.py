"""Families: codes and back, contracts, what one client adds to measured cells, and children that follow parents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pe_beam.contracts.generator import Marginals, Step
from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.relational import modality_of
from pe_beam.modalities.relational.codec import encode
from pe_beam.modalities.relational.embedder import RelationalEmbedder, RelationalEmbedderOptions
from pe_beam.modalities.relational.generator import Relational, RelationalOptions
from pe_beam.modalities.relational.schema import RelationalSchema
from pe_beam.testing import check_embedder, check_generator
from tests.modalities.relational.shop import families, schema

SCHEMA = schema()


def embedder(own: RelationalSchema = SCHEMA) -> RelationalEmbedder:
    return RelationalEmbedder(RelationalEmbedderOptions(), schema=own)


def generator(own: RelationalSchema = SCHEMA) -> Relational:
    return Relational(RelationalOptions(), labels=[None], schema=own)


def rngs(count: int, purpose: str = "random") -> list[np.random.Generator]:
    return [keyed_rng(0, 0, i, purpose) for i in range(count)]


def exact(table: pa.Table, groups: int = 8) -> Marginals:
    """Marginals of families without noise, as a run would measure them."""
    made = embedder()
    bins, sizes, grouped = made.marginal_bins(made.embed(table).vectors), made.marginal_sizes(), None
    grouped = made.marginal_groups(groups)
    names, parts = list(sizes), made.marginal_parts
    counts = {name: np.bincount(bins[:, i], minlength=sizes[name])[None] / parts for i, name in enumerate(names)}
    pairs = {}
    for i, a in enumerate(names):
        for j, b in list(enumerate(names))[i + 1 :]:
            shape = (int(grouped[a].max()) + 1, int(grouped[b].max()) + 1)
            cells = grouped[a][bins[:, i]] * shape[1] + grouped[b][bins[:, j]]
            pairs[a, b] = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape) / parts
    return Marginals([None], counts, 0.0, grouped, pairs, 0.0)


def test_embedder_and_generator_hold_to_their_contracts() -> None:
    check_generator(generator(), modality_of(SCHEMA), labels=[None])
    check_generator(generator().seeded(exact(families(200))), modality_of(SCHEMA), labels=[None])
    made = families(40)
    check_embedder(embedder(), made)


def test_a_family_with_more_children_than_declared_is_a_fault() -> None:
    found = embedder(schema(most=1)).embed(families(30))
    counts = encode(families(30), SCHEMA).counts
    assert sorted(found.faults) == np.flatnonzero(counts > 1).tolist()
    assert not found.vectors[sorted(found.faults)].any()


@pytest.mark.parametrize("pairs", [None, 5])
def test_a_client_changes_the_counts_by_no_more_than_the_noise_is_for(pairs: int | None) -> None:
    """Each client's cells, over all cells of the one ledger line; parts of a client add up alike for any number."""
    from types import SimpleNamespace

    from pe_beam.engine.measurements import Cells

    own = families(300)
    marginals = SimpleNamespace(pairs=pairs)
    recipe: Any = SimpleNamespace(privacy=SimpleNamespace(marginals=marginals), label_count=1)
    run: Any = SimpleNamespace(recipe=recipe, embedder=embedder())
    cells = Cells(run)
    vectors = embedder().embed(own).vectors
    labels = np.zeros(300, dtype=np.int32)
    rows, found = cells.ballots(vectors, labels)
    binned = (embedder().marginal_bins(vectors), labels)
    assert np.array_equal(cells.tally([binned]).counts, np.bincount(found, minlength=cells.width))
    norms, totals = [], set()
    for row in range(300):
        counts = np.bincount(found[rows == row], minlength=cells.width)
        norms.append(int((counts**2).sum()))
        totals.add(int(counts.sum()))
        alone = cells.ballots(vectors[row : row + 1], np.zeros(1, dtype=np.int32))[1]
        assert np.array_equal(np.bincount(alone, minlength=cells.width), counts)  # others change nothing of it
    assert max(norms) == cells.votes_per_record  # a client without children: all its parts are in one cell each
    assert len(totals) == 1


def test_children_follow_their_parents_by_measured_pairs() -> None:
    """Kinds of orders by segment, and the mean number of orders, to a few percent; without pairs they are lost."""
    real = families(1500)
    measured = exact(real)
    seeded = generator().seeded(measured)
    made = seeded.random([None] * 3000, rngs(3000))

    def by_segment(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        found = encode(table, SCHEMA)
        segment, kind = found.parents[:, 0].astype(int), found.children[:, 1].astype(int)
        shares = np.array([np.bincount(kind[segment[found.owners] == own], minlength=6) for own in range(4)])
        counts = np.array([found.counts[segment == own].mean() for own in range(4)])
        return shares / shares.sum(axis=1, keepdims=True), counts

    (shares, counts), (wanted, numbers) = by_segment(made), by_segment(real)
    assert 0.5 * np.abs(shares - wanted).sum(axis=1).max() < 0.08
    assert np.abs(counts / numbers - 1).max() < 0.1
    alone = Marginals(measured.labels, measured.counts, 0.0)
    shares, _ = by_segment(generator().seeded(alone).random([None] * 2000, rngs(2000)))
    assert 0.5 * np.abs(shares - wanted).sum(axis=1).max() > 0.2


def test_variations_stay_within_what_is_declared_and_degree_0_changes_nothing() -> None:
    own = schema(
        most=3,
        constraints=[{"if": {"kind": ["food"]}, "then": {"amount": {"max": 100}}}],
    )
    made = generator(own)
    before = made.random([None] * 300, rngs(300)).append_column("label", pa.nulls(300, pa.string()))
    same = made.vary(before, Step(iteration=1, iterations=2, degree=0.0), rngs(300, "vary"))
    assert same.drop_columns(["state"]).equals(before.drop_columns(["state", "label"]))
    varied = made.vary(before, Step(iteration=1, iterations=2, degree=0.5), rngs(300, "vary"))
    first, second = encode(before, own), encode(varied, own)
    assert (second.counts != first.counts).any()
    assert second.counts.max() == 3
    for found in (first, second):
        food = found.children[:, 1] == 0
        assert (found.children[food, 2] <= 100).all()
    days = second.children[:, 0]
    assert (np.diff(days)[np.diff(second.owners) == 0] >= 0).all()  # children are in order
    assert not embedder(own).embed(varied).faults


PATIENTS: dict[str, Any] = {
    "parent": {
        "name": "patients",
        "key": "id",
        "columns": {
            "sex": {"type": "categorical", "values": ["f", "m"]},
            "joined": {"type": "date", "min": "2020-01-01", "max": "2025-12-31"},
            "died": {"type": "date", "min": "2022-01-01", "max": "2025-12-31", "missing": True},
        },
        "constraints": [{"less_or_equal": ["joined", "died"]}],
    },
    "child": {
        "name": "stays",
        "key": "patient",
        "most": 4,
        "order": "day",
        "columns": {
            "day": {"type": "date", "min": "2020-01-01", "max": "2025-12-31"},
            "ward": {"type": "categorical", "values": ["births", "surgery", "other"]},
            "days": {"type": "integer", "min": 0, "max": 99},
        },
        "constraints": [{"if": {"ward": ["births"]}, "then": {"days": {"max": 9}}}],
    },
    "constraints": [
        {"less_or_equal": ["joined", "stays.day"]},
        {"less_or_equal": ["stays.day", "died"]},
        {"if": {"sex": ["m"]}, "then": {"stays.ward": ["surgery", "other"]}},
    ],
}


def test_children_obey_what_is_declared_of_them_and_their_parent() -> None:
    """Stays lie between two dates of their patient, and are even there: they do not gather at the first or the last."""
    own = RelationalSchema.model_validate(PATIENTS)
    made = generator(own)
    before = made.random([None] * 500, rngs(500)).append_column("label", pa.nulls(500, pa.string()))
    varied = made.vary(before, Step(iteration=1, iterations=2, degree=0.3), rngs(500, "vary"))
    plain = generator(RelationalSchema.model_validate({**PATIENTS, "constraints": []}))
    assert plain.random([None] * 500, rngs(500))["joined"].equals(before["joined"]), "parents stay as they are"
    for table in (before, varied):
        found = encode(table, own)
        parents = found.parents[found.owners]
        sex, joined, died = parents.T
        day, ward, days = found.children.T
        assert (joined <= day).all() and ((day <= died) | np.isnan(died)).all()
        assert (ward[sex == 1] > 0).all() and (ward[sex == 0] == 0).any() and (days[ward == 0] <= 9).all()
        assert len(np.unique(ward[sex == 1])) == 2
    found = encode(before, own)
    _, joined, died = found.parents[found.owners].T
    long = died - joined > 100
    at = (found.children[:, 0] - joined)[long] / (died - joined)[long]
    assert (at == 0).mean() < 0.03 > (at == 1).mean() and abs(at.mean() - 0.5) < 0.08
    check_generator(made, modality_of(own), labels=[None])


def test_a_stay_lies_between_admission_and_death_whichever_end_its_parent_fixes() -> None:
    """joined <= day <= out <= died: `out` cannot be raised beyond the death, so `day` is lowered."""
    child = PATIENTS["child"]
    day, other = child["columns"]["day"], {"type": "categorical", "values": ["a", "b"]}
    schema = PATIENTS | {
        "child": child
        | {"columns": {"day": day, "out": day, "ward": other}, "constraints": [{"less_or_equal": ["day", "out"]}]},
        "constraints": [
            {"less_or_equal": ["joined", "stays.day"]},
            {"less_or_equal": ["stays.out", "died"]},
            {"if": {"sex": ["m"]}, "then": {"stays.ward": ["a"]}},
            {"if": {"joined": {"min": "2025-01-01"}}, "then": {"stays.ward": ["b"]}},
        ],
    }
    with pytest.raises(RecipeError, match="cannot be met together"):  # a man who joined in 2025 has no ward
        generator(RelationalSchema.model_validate(schema))
    own = RelationalSchema.model_validate(schema | {"constraints": schema["constraints"][:-1]})
    found = encode(generator(own).random([None] * 300, rngs(300)), own)
    bounded = {**schema["constraints"][0], "within": 30}
    with pytest.raises(ValidationError, match="min of joined may not be so far below"):
        late = {**schema["child"], "columns": {**schema["child"]["columns"], "day": {**day, "min": "2021-01-01"}}}
        RelationalSchema.model_validate({**schema, "child": late, "constraints": [bounded]})
    near = RelationalSchema.model_validate({**schema, "constraints": [bounded]})
    close = encode(generator(near).random([None] * 300, rngs(300)), near)
    after = close.children[:, 0] - close.parents[close.owners, 1]
    assert after.min() == 0 and after.max() == 30 and (after == 30).mean() < 0.1 > (after == 0).mean()
    _, joined, died = found.parents[found.owners].T
    day, out, _ = found.children.T
    assert (joined <= day).all() and (day <= out).all() and ((out <= died) | np.isnan(died)).all()


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (
            {"less_or_equal": ["joined", "day"]},
            "'day' is no declared column; allowed: sex, joined, died, number of stays",
        ),
        ({"less_or_equal": ["joined", "died"]}, "one column of each table"),
        ({"if": {"stays.ward": ["births"]}, "then": {"sex": ["f"]}}, "then is wanted of columns of stays"),
        ({"sum": ["stays.days"], "equals": "number of stays"}, "sum is of one table"),
        ({"less_or_equal": ["joined", "sex"]}, "numbers, or columns of one type"),
        ({"less_or_equal": ["number of stays", "stays.days"]}, None),
        ({"less_or_equal": ["stays.days", "number of stays"]}, None),
    ],
)
def test_a_constraint_across_tables_that_cannot_be_is_refused(constraint: dict[str, Any], message: str | None) -> None:
    changed = {**PATIENTS, "constraints": [constraint]}
    if message is None:
        RelationalSchema.model_validate(changed)
        return
    with pytest.raises(ValidationError, match=message):
        RelationalSchema.model_validate(changed)


def test_bounds_that_leave_a_child_nothing_are_refused() -> None:
    columns = PATIENTS["child"]["columns"]
    for day, said in (
        ({"max": "2025-06-30"}, "the max of joined may not be above"),
        ({"min": "2022-02-01"}, "the min of died"),
    ):
        child = PATIENTS["child"] | {"columns": columns | {"day": columns["day"] | day}}
        with pytest.raises(ValidationError, match=said):
            RelationalSchema.model_validate({**PATIENTS, "child": child})
    parent = PATIENTS["parent"] | {"constraints": []}
    with pytest.raises(RecipeError, match=r"is declared in parent\.constraints"):
        generator(RelationalSchema.model_validate({**PATIENTS, "parent": parent}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "kind"}, "no declared column with an order"),
        ({"name": "customers"}, "the parent's name"),
        ({"name": "age"}, "two things"),
        ({"key": "kind"}, "never released"),
        ({"most": 0}, "greater than or equal to 1"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        schema(**changes)
