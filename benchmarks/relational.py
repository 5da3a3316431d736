"""Customers and orders: quality across both tables beside tables that are made independently of each other.

    python benchmarks/relational.py                 5,000 customers, epsilon 4, three seeds
    python benchmarks/relational.py --set privacy.epsilon=1
    python benchmarks/relational.py --toy           on next to nothing

The shop is made up (docs/examples/shop). Distances are those of `evaluate`, against the tables that were private and
against another draw of the same shop; "another draw" is the second beside the first, which no synthesis can beat.
Independent tables are two runs of modality `tabular` with the same measurements, each at the whole epsilon, so that
they spend twice as much; their orders go to random customers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from _place import ROOT

import pe_beam
from pe_beam.contracts.metric import Comparison
from pe_beam.contracts.source import SourceBatch
from pe_beam.driver.export import export
from pe_beam.modalities.relational.codec import RelationalContent
from pe_beam.modalities.relational.metrics import marginal_distances
from pe_beam.modalities.relational.schema import RelationalSchema, as_schema
from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.sources.gathering import PAYLOAD, gathered, owned

EXAMPLE = ROOT / "docs/examples/shop"


def main() -> None:
    """Prints figures of each seed and their medians, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="a.b=c of the recipe")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.customers, options.seeds = 200, 1
    found = [_seed(seed, options.customers, options.set) for seed in range(options.seeds)]
    for each in found:
        print(json.dumps(each))
    across = {way: float(np.median([each[way]["tvd_across_2way"] for each in found])) for way in found[0]["ways"]}
    print(json.dumps({"median of tvd_across_2way": across, "ratio": across["together"] / across["independent"]}))


def _seed(seed: int, customers: int, changes: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shop = _maker()
        shop["write"](folder / "shop", customers, seed)
        shop["write"](folder / "other", customers, 1000 + seed)
        told = load_recipe(
            str(EXAMPLE / "shop.yaml"),
            [f"data.path={folder / 'shop'}", "data.holdout=null", f"evolution.samples={customers}", *changes],
        )
        schema = as_schema(told.data.table_schema)
        real, other = _families(folder / "shop", schema), _families(folder / "other", schema)
        began = time.monotonic()
        release = pe_beam.open_release(pe_beam.evolve(told, folder / "run").store.uri)
        seconds = time.monotonic() - began
        export(str(folder / "run"), folder / "made")
        ways = {
            "together": release.samples().select(real.column_names),
            "independent": _independent(told, folder, schema),
            "another draw": other,
        }
        return {
            "seed": seed,
            "ways": list(ways),
            **{way: _figures(table, real, told) for way, table in ways.items()},
            "together, against another draw": _figures(ways["together"], other, told),
            "integrity": _integrity(folder / "made", schema),
            "seconds": round(seconds, 1),
        }


def _maker() -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "shop"}
    exec(compile((EXAMPLE / "shop.py").read_text(encoding="utf-8"), "shop.py", "exec"), made)
    return made


def _families(folder: Path, schema: RelationalSchema) -> pa.Table:
    """Returns the families of two CSV files."""
    rows = []
    for part in (schema.parent, schema.child):
        texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys([part.key, *part.columns], pa.string()))
        rows.append(pyarrow.csv.read_csv(folder / f"{part.name}.csv", convert_options=texts))
    return _joined(*rows, schema)


def _joined(parents: pa.Table, children: pa.Table, schema: RelationalSchema) -> pa.Table:
    content, rows = RelationalContent(schema), []
    for (name, part), table in zip(content.tables.items(), (parents, children), strict=True):
        payload, faults = part.rows.convert(table.select(part.rows.payload.names))
        clients = [str(key) for key in table[part.client].to_pylist()]
        places = [f"{name}:{at}" for at in range(len(table))]
        rows.append(owned(content, name, SourceBatch(payload, [None] * len(table), clients, places, faults), ""))
    found = gathered(content, pa.concat_tables(rows))
    return pa.table(found[PAYLOAD].combine_chunks().flatten(), schema=content.payload)


def _independent(told: Recipe, folder: Path, schema: RelationalSchema) -> pa.Table:
    """Returns families of two runs that know nothing of each other."""
    rng, made = np.random.default_rng(told.seed), []
    for name, part in (("parent", schema.parent), ("child", schema.child)):
        file, plain = folder / "shop" / f"{part.name}.csv", to_plain(told)
        rows = len(pyarrow.csv.read_csv(file))
        plain["data"] = {
            "source": "csv",
            "path": str(file),
            "columns": {"client": part.key},
            "schema": {"columns": plain["data"]["schema"][name]["columns"]},
        }
        plain["modality"], plain["embedder"] = "tabular", {"name": "tabular"}
        plain["generator"] = {"name": "tabular", "steps": "redraw"}
        plain["evolution"] |= {"samples": rows, "population": None}
        run = pe_beam.evolve(parse_recipe(plain), folder / f"run-{name}")
        keys = rng.integers(made[0].num_rows, size=rows) if made else np.arange(rows)
        samples = pe_beam.open_release(run.store.uri).samples()
        made.append(samples.append_column(part.key, pa.array(keys)))
    return _joined(*made, schema)


def _figures(made: pa.Table, real: pa.Table, told: Recipe) -> dict[str, float]:
    comparison = Comparison(
        iteration=None,
        samples=made,
        held_out=real,
        training=None,
        labels=None,
        recipe=to_plain(told),
        seed=0,
    )
    return {name: round(value, 4) for name, value in marginal_distances(comparison).figures.items()}


def _integrity(folder: Path, schema: RelationalSchema) -> float:
    """Returns the share of exported children whose key is that of exactly one exported parent."""
    keys = pq.read_table(folder / f"{schema.parent.name}.parquet")[schema.parent.key].to_pylist()
    owners = pq.read_table(folder / f"{schema.child.name}.parquet")[schema.child.key].to_pylist()
    assert len(set(keys)) == len(keys), "a key comes twice"
    return float(np.isin(owners, keys).mean())


if __name__ == "__main__":
    main()
