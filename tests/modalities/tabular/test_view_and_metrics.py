"""What the report shows of tables, and metrics against cases whose answer is known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.contracts.metric import Comparison
from pe_beam.engine import tables
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.tabular import metrics
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.metrics import cramers_v, pearson
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.modalities.tabular.view import TableView
from tests.modalities.tabular.conftest import KINDS

HOSTILE = "</style><script>alert(1)</script>"


class Release:
    """As much of a `History` as a view reads."""

    last = 1
    labels: tuple[str, ...] = ("a", "b")

    def __init__(self, schema: TableSchema) -> None:
        generator = Tabular(TabularOptions(), labels=["a", "b"], schema=schema)
        self._rows = generator.random(["a", "b"] * 60, [keyed_rng(0, 0, i, "random") for i in range(120)])
        ids = pa.array(range(120), pa.int64())
        self._rows = self._rows.append_column("candidate_id", ids).append_column("label", pa.array(["a", "b"] * 60))

    def manifest(self, _iteration: int) -> dict[str, Any]:
        return {}

    def population(self, _iteration: int, columns: Any = None) -> pa.Table:
        return self._rows.select(columns) if columns else self._rows


def test_rows_are_escaped_and_changes_marked() -> None:
    schema = TableSchema.model_validate(
        {
            "columns": {
                HOSTILE: {"type": "categorical", "values": [HOSTILE, "b"]},
                "n": {"type": "integer", "min": 0, "max": 9, "missing": True},
            }
        }
    )
    view = TableView(schema)
    record = {"candidate_id": 7, "label": "a", HOSTILE: HOSTILE, "n": None}
    whole = str(view.fragment(record, record | {"n": 3}))
    assert "<script" not in whole and "<mark>–</mark> <s>3</s>" in whole and whole.count("<mark>") == 1
    assert "row 7" in view.alt(record)
    page = view.gallery([record], lambda _, inside: inside) + "".join(
        str(section.body)
        for section in view.sections(Release(schema))  # type: ignore[arg-type]
    )
    assert "<script" not in page and "</style>" not in page + view.css()


def test_sections_show_every_column_and_rows_that_sort(kinds: TableSchema) -> None:
    view = TableView(kinds)
    sections = {section.key: str(section.body) for section in view.sections(Release(kinds))}  # type: ignore[arg-type]
    assert sections["columns"].count("<figure>") == len(KINDS["columns"])
    rows = re.findall(r'<tr style="([^"]*)"', sections["rows"])
    assert len(rows) == 40  # 120 at steps of 3
    orders = [[int(x) for x in re.findall(r":(\d+)", row)] for row in rows]
    for column in zip(*orders, strict=True):
        assert sorted(column) == list(range(40))  # each choice orders all rows
    assert all(f".tb-by{i}:checked" in view.css() for i in range(len(orders[0])))
    ages = [int(x) for x in re.findall(r"<td>(?:a|b)</td><td>(\d+)</td>", sections["rows"])]
    by_age = [age for _, age in sorted(zip([order[1] for order in orders], ages, strict=True))]
    assert by_age == sorted(ages)


def compared(
    samples: pa.Table,
    held_out: pa.Table,
    training: pa.Table | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    **schema: Any,
) -> Comparison:
    return Comparison(
        options=options,
        iteration=1,
        samples=samples,
        held_out=held_out,
        training=training,
        labels=["p", "q"],
        recipe={"data": {"schema": {"columns": schema}}, "embedder": {"name": "tabular"}},
        seed=0,
    )


X = {"x": {"type": "float", "min": 0, "max": 1}, "c": {"type": "categorical", "values": ["u", "v"], "missing": True}}


def test_marginal_and_transport_distances_of_known_cases() -> None:
    here = pa.table({"x": [0.0] * 8, "c": ["u"] * 8, "label": ["p"] * 8})
    there = pa.table({"x": [1.0] * 8, "c": ["v"] * 8, "label": ["p"] * 8})
    same = metrics.marginal_distances(compared(here, here, **X)).figures
    assert same == {"tvd_1way": 0, "tvd_2way": 0}
    far = metrics.marginal_distances(compared(here, there, **X)).figures
    assert far["tvd_1way"] == pytest.approx(2 / 3) and far["tvd_2way"] == 1
    moved = metrics.transport_distances(compared(here, there, **X)).figures
    assert moved["wasserstein_1way"] == pytest.approx(2 / 3)
    assert moved["wasserstein_2way"] == pytest.approx((np.sqrt(2) + 1 + 1) / 3)
    assert moved["wasserstein_3way"] == pytest.approx(np.sqrt(2))
    gone = pa.table({"x": [0.0] * 8, "c": pa.array([None] * 8, pa.string()), "label": ["p"] * 8})
    assert metrics.marginal_distances(compared(gone, here, **X)).figures["tvd_1way"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_label_that_one_side_lacks_is_as_far_as_it_is_among_the_declared_ones(mirrored: bool) -> None:
    samples = pa.table({"x": [0.0] * 4, "label": ["p", "q", "q", "q"]})
    held_out = pa.table({"x": [0.0] * 4, "label": ["p", "q", "q", "r"]})
    sides = (held_out, samples) if mirrored else (samples, held_out)
    comparison = dataclasses.replace(compared(*sides, x=X["x"]), labels=["p", "q", "r"])
    found = metrics.transport_distances(comparison).figures
    assert found["wasserstein_1way"] == pytest.approx((0 + 0.25 * 0.5) / 2)
    assert found["wasserstein_2way"] == pytest.approx(0.25 * 0.5)


def test_marginals_of_as_many_columns_as_asked_for() -> None:
    """Every pair of three columns is uniform on both sides; all three together have nothing in common."""
    columns = {name: {"type": "categorical", "values": ["0", "1"]} for name in "abc"}
    bits = np.array(np.meshgrid([0, 1], [0, 1])).reshape(2, -1)

    def table(odd: int) -> pa.Table:
        all_three = [*bits, (bits.sum(axis=0) + odd) % 2]
        return pa.table(
            dict(zip("abc", ([str(x) for x in each] for each in all_three), strict=True)) | {"label": ["p"] * 4}
        )

    even, odd = table(0), table(1)
    assert set(metrics.marginal_distances(compared(even, odd, **columns)).figures.values()) == {0}
    assert metrics.wide_marginals(compared(even, odd, **columns)).figures == {}
    wide = metrics.wide_marginals(compared(even, odd, options={"way": "3"}, **columns)).figures
    assert wide == {"tvd_3way": 1 / 4}  # of four sets of columns, one has no label in it
    assert metrics.wide_marginals(compared(even, even, options={"way": "4"}, **columns)).figures == {"tvd_4way": 0}
    assert "4 columns" in metrics.wide_marginals(compared(even, odd, options={"way": "5"}, **columns)).notes[0]
    for way in ("2", "11", "three"):
        with pytest.raises(InputError, match="from 3 to 10"):
            metrics.read_options({"way": way})


def test_repetitions_and_copies_are_counted() -> None:
    rows = [(0.5, "u"), (0.5, "u"), (0.25, None), (0.75, "v")]
    table = pa.table({"x": [x for x, _ in rows], "c": pa.array([c for _, c in rows], pa.string()), "label": ["p"] * 4})
    held_out = pa.table(
        {"x": [0.1, 0.2, 0.3, 0.25], "c": pa.array(["u", "u", "u", None]), "label": ["p", "p", "p", "q"]}
    )
    found = metrics.repetitions(compared(table, held_out, table, **X)).figures
    assert found == {
        **{"distinct_share": 0.75, "distinct_training_share": 0.75, "distinct_held_out_share": 1},
        **{"copied_share": 1, "copied_held_out_share": 0},  # the label tells one from the missing value's row
    }
    assert set(metrics.repetitions(compared(table, held_out, **X)).figures) == {
        "distinct_share",
        "distinct_held_out_share",
    }


def test_copies_of_training_rows_give_attributes_away() -> None:
    """One column is noise: only copies of the records themselves tell it."""
    rng = np.random.default_rng(0)
    columns = {"x": {"type": "float", "min": 0, "max": 1}, "n": {"type": "integer", "min": 0, "max": 10**6}}
    columns |= {"code": {"type": "categorical", "values": [str(i) for i in range(100)]}}

    def rows() -> pa.Table:
        code = [str(i) for i in rng.integers(0, 100, 300)]
        return pa.table({"x": rng.random(300), "n": rng.integers(0, 10**6, 300), "code": code, "label": ["p"] * 300})

    training, held_out = rows(), rows()
    stolen = metrics.attribute_inference(compared(training, held_out, training, **columns)).figures
    fresh = metrics.attribute_inference(compared(rows(), held_out, training, **columns)).figures
    assert stolen["inferred_training_share"] > 0.95 and stolen["inferred_held_out_share"] < 0.5
    assert abs(fresh["inferred_training_share"] - fresh["inferred_held_out_share"]) < 0.05
    assert metrics.attribute_inference(compared(training, held_out, **columns)).figures == {}


def test_a_missing_package_leaves_transport_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ot", None)
    rows = pa.table({"x": [0.0], "c": ["u"], "label": ["p"]})
    with pytest.raises(MissingExtraError, match=r"pe_beam\[table\]"):
        metrics.transport_distances(compared(rows, rows, **X))


def test_classifiers_and_closeness_tell_good_from_bad() -> None:
    rng = np.random.default_rng(0)

    def rows(count: int, honest: bool = True) -> pa.Table:
        x = rng.random(count)
        label = np.where(x > 0.5, "p", "q") if honest else rng.choice(["p", "q"], count)
        return pa.table({"x": x, "c": rng.choice(["u", "v"], count), "label": label})

    training, held_out = rows(400), rows(400)
    good = metrics.classifiers(compared(rows(400), held_out, **X)).figures
    bad = metrics.classifiers(compared(rows(400, honest=False), held_out, **X)).figures
    for model in ("hist_gradient_boosting", "xgboost"):
        assert good[f"{model}_accuracy"] > 0.95 and good[f"{model}_auc"] > 0.95
        assert bad[f"{model}_auc"] < 0.7
    alone = pa.table({"x": [0.1, 0.2], "c": ["u", "u"], "label": ["p", "p"]})
    assert metrics.classifiers(compared(alone, held_out, **X)).notes
    stolen = metrics.closeness(compared(training, held_out, training, **X)).figures
    fresh = metrics.closeness(compared(rows(400), held_out, training, **X)).figures
    assert stolen["closer_to_training_share"] > 0.95 and 0.4 < fresh["closer_to_training_share"] < 0.6
    assert metrics.closeness(compared(training, held_out, **X)).notes
    assert metrics.associations(compared(training, held_out, **X)).figures["association_difference"] < 0.1


@pytest.mark.parametrize("kind", [{"type": "float", "min": 0, "max": 1}, {"type": "categorical", "values": ["u"]}])
def test_classifiers_do_without_a_column_that_samples_never_have(kind: dict[str, Any]) -> None:
    x, rare = np.linspace(0, 1, 60), 0.5 if kind["type"] == "float" else "u"
    label = np.where(x > 0.5, "p", "q")
    column = pa.nulls(60, pa.float64() if kind["type"] == "float" else pa.string())
    samples = pa.table({"x": x, "rare": column, "label": label})
    held_out = pa.table({"x": x, "rare": [rare] * 60, "label": label})
    schema = {"x": X["x"], "rare": {**kind, "missing": True}}
    found = metrics.classifiers(compared(samples, held_out, **schema)).figures
    assert found["hist_gradient_boosting_accuracy"] > 0.9 and found["xgboost_accuracy"] > 0.9


def test_associations_of_known_cases() -> None:
    a = np.array([0, 0, 1, 1])
    assert cramers_v(a, 1 - a, (2, 2)) == pytest.approx(1)
    assert cramers_v(a, np.array([0, 1, 0, 1]), (2, 3)) == pytest.approx(0)
    assert cramers_v(a, np.zeros(4, int), (2, 2)) == 0
    assert cramers_v(np.arange(4), np.arange(4), (4, 4)) == 0  # as many values as rows say nothing
    rng = np.random.default_rng(0)
    codes, other = rng.integers(0, 300, 4000), rng.integers(0, 19, 4000)
    assert cramers_v(codes, other, (300, 19)) < 0.1  # it is .27 with what chance gives
    assert cramers_v(codes, codes % 19, (300, 19)) > 0.95
    assert pearson(a * 1.0, -2.0 * a) == pytest.approx(-1) and pearson(a * 1.0, np.ones(4)) == 0
    assert pearson(np.array([1.0, np.nan, 2.0]), np.array([2.0, 5.0, 4.0])) == pytest.approx(1)


def test_a_population_has_the_declared_columns(kinds: TableSchema, tmp_path: Path) -> None:
    assert tables.population_schema(kinds.payload).names[5:] == list(KINDS["columns"])
