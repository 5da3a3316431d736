"""Tables beside MST and AIM (smartnoise-synth): equal epsilon, delta, domain, split and number of samples.

    python benchmarks/tables_peers.py --data ../shared/data/adult.csv --json FILE --plot FILE.png
    python benchmarks/tables_peers.py --tables breast-cancer --epsilons 1 --seeds 1 --methods ours mst
    python benchmarks/tables_peers.py --peers PYTHON       one that has smartnoise-synth; default: it is made anew
    python benchmarks/tables_peers.py --toy                ours alone, on next to nothing

Tables: Adult (if --data is given), breast cancer (scikit-learn's), and two made-up ones of 20,000 rows whose label is
the parity of 3 or of 5 of 8 binary columns. All methods see the same training rows in the bins that the schema
declares for marginals; a drawn bin becomes a value evenly within it. Figures are against the same held-out rows: mean
total variation distance of one-way and two-way marginals, area under the ROC curve of gradient boosting that is
trained on the samples, share of distinct rows, seconds of the whole method in a process of its own, and its peak of
memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from _place import RECIPES

from pe_beam.modalities.tabular.codec import decode_payload, encode_payload
from pe_beam.modalities.tabular.marginals import bin_of, code_in
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.identity import declared_schema, to_yaml
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.models import Recipe

METHODS = ("ours", "mst", "aim")
LABEL = "label of the record"
FIGURES = ("tvd1", "tvd2", "auc", "distinct", "seconds", "megabytes")


@dataclass(frozen=True)
class Peers:
    """Where the peers run, and how long one run may take."""

    python: str
    limit: float


@dataclass(frozen=True)
class Task:
    """A table and a way to make it: the recipe, the training rows and the held-out ones, with a column `label`."""

    name: str
    recipe: Recipe
    train: pa.Table
    test: pa.Table

    @property
    def schema(self) -> TableSchema:
        """The declared columns."""
        found = declared_schema(self.recipe)
        assert isinstance(found, TableSchema)
        return found

    def codes(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Bins of every column and of the label, int64, each from 0."""
        values = encode_payload(table, self.schema)
        columns = self.schema.columns.items()
        found = {name: bin_of(values[:, place], column) for place, (name, column) in enumerate(columns)}
        labels = {label: code for code, label in enumerate(self.recipe.label_list)}
        return found | {LABEL: np.array([labels[label] for label in table["label"].to_pylist()])}

    def sizes(self) -> dict[str, int]:
        """Number of bins of every column, that of missing values included where they are declared, and of the label."""
        found = {name: column.marginal_bins + column.missing for name, column in self.schema.columns.items()}
        return found | {LABEL: len(self.recipe.label_list)}

    def decoded(self, codes: dict[str, Sequence[int]], seed: int) -> pa.Table:
        """Rows with a value drawn evenly within each bin."""
        rng = np.random.default_rng(seed)
        columns = self.schema.columns.items()
        values = [code_in(np.array(codes[name]), rng.random(len(codes[name])), column) for name, column in columns]
        labels = [self.recipe.label_list[code] for code in codes[LABEL]]
        return decode_payload(np.column_stack(values), self.schema).append_column(
            "label", pa.array(labels, pa.string())
        )


def tasks(options: argparse.Namespace, folder: Path) -> Iterator[Task]:
    """The tables that are asked for."""
    for name in options.tables:
        if name == "adult" and options.data is None:
            print("adult: left out, for want of --data", flush=True)
        elif name == "adult":
            yield cut("adult", pyarrow.csv.read_csv(options.data), "income>50K", folder)
        elif name == "breast-cancer":
            yield cut("breast-cancer", breast_cancer(), "label", folder)
        else:
            yield parity(name, int(name.removeprefix("parity")), options.rows, folder)


def breast_cancer() -> pa.Table:
    """Scikit-learn's table, with names of labels."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    columns = {name: found.data[:, place] for place, name in enumerate(found.feature_names)}
    return pa.table(columns | {"label": [str(found.target_names[code]) for code in found.target]})


def cut(name: str, table: pa.Table, label: str, folder: Path) -> Task:
    """A table of a shipped recipe, 70 to 30, as the figures of others do."""
    from sklearn.model_selection import train_test_split

    parts = dict(
        zip(("train", "test"), train_test_split(np.arange(table.num_rows), test_size=0.3, random_state=0), strict=True)
    )
    written = {part: folder / f"{name}-{part}.csv" for part in parts}
    for part, rows in parts.items():
        pyarrow.csv.write_csv(table.take(rows), written[part])
    settings = [
        *("data.source=csv", f"data.path={written['train']}", f"data.holdout={written['test']}"),
        f"data.columns={json.dumps({'label': label})}",
    ]
    recipe = load_recipe(RECIPES / f"{name}.yaml", settings)
    return Task(name, recipe, *(labelled(recipe, table.take(rows), label) for rows in parts.values()))


def labelled(recipe: Recipe, table: pa.Table, label: str) -> pa.Table:
    """The declared columns as a payload, and the label as text."""
    from pe_beam.recipe.parts import find_modality

    schema = find_modality(recipe)
    payload, faults = schema.reader().convert(table.select(schema.payload.names))
    assert not faults, f"{recipe.name}: rows that cannot be used"
    return payload.append_column("label", table[label].cast(pa.string()))


def parity(name: str, order: int, rows: int, folder: Path) -> Task:
    """Eight fair coins; the label is the parity of the first `order`, wrong in one of twenty rows."""
    rng = np.random.default_rng(order)
    coins = rng.integers(0, 2, (rows + 4000, 8))
    truth = (coins[:, :order].sum(axis=1) + (rng.random(len(coins)) < 0.05)) % 2
    table = pa.table({f"x{i}": coins[:, i].astype(str) for i in range(8)} | {"label": truth.astype(str)})
    pyarrow.csv.write_csv(table.slice(0, rows), folder / f"{name}.csv")
    recipe = parse_recipe(
        {
            "name": name,
            "data": {
                "source": "csv",
                "path": str(folder / f"{name}.csv"),
                "columns": {"label": "label"},
                "labels": ["0", "1"],
                "expected_records": rows,
                "schema": {"columns": {f"x{i}": {"type": "categorical", "values": ["0", "1"]} for i in range(8)}},
            },
            "modality": "tabular",
            "generator": {"name": "tabular", "steps": "redraw"},
            "embedder": {"name": "tabular"},
            "evolution": {
                "iterations": 4,
                "samples": 1000,
                "population": 1000,
                "degree": 0.15,
                "threshold": 0,
                "smoothing": 0.3,
                "final": "selected",
            },
            "privacy": {"epsilon": 1, "delta": 5e-6, "marginals": {"budget": 0.1}},
        }
    )
    return Task(name, recipe, table.slice(0, rows), table.slice(rows))


def ours(task: Task, epsilon: float, seed: int, folder: Path, extra: Sequence[str]) -> tuple[pa.Table, float, float]:
    """Samples, seconds and peak megabytes of `pe-beam run` in a process of its own."""
    (folder / "recipe.yaml").write_text(to_yaml(task.recipe))
    run_dir = folder / f"{task.name}-{epsilon:g}-{seed}"
    settings = [f"privacy.epsilon={epsilon}", f"seed={seed}", *extra]
    command = ["run", str(folder / "recipe.yaml"), "--run-dir", str(run_dir)]
    code = (
        "import resource, sys, time; began = time.time();"
        "from pe_beam.cli.main import main; status = main(sys.argv[1:]);"
        "peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)];"
        "print(time.time() - began, max(peaks) / 1024); sys.exit(status)"
    )
    given = [*command, *itertools.chain.from_iterable(("--set", each) for each in settings)]
    done = subprocess.run([sys.executable, "-c", code, *given], check=True, capture_output=True, text=True)
    seconds, megabytes = map(float, done.stdout.split("\n")[-2].split())
    return pq.read_table(run_dir / "release/samples.parquet"), seconds, megabytes


def peer(peers: Peers, method: str, task: Task, epsilon: float, seed: int) -> tuple[pa.Table, float, float] | None:
    """The same of MST or AIM; None if it takes longer than the limit or fails."""
    codes = {name: own.tolist() for name, own in task.codes(task.train).items()}
    told = [method, epsilon, task.recipe.privacy.delta, seed, task.recipe.evolution.samples]
    command = [peers.python, str(Path(__file__).parent / "_peer.py"), *map(str, told)]
    try:
        given = json.dumps({"sizes": task.sizes(), "codes": codes})
        done = subprocess.run(command, input=given, check=True, capture_output=True, text=True, timeout=peers.limit)
    except subprocess.TimeoutExpired:
        print(f"{task.name} {method}: not done in {peers.limit:g} s", flush=True)
        return None
    except subprocess.CalledProcessError as error:
        print(f"{task.name} {method}: failed: {error.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    found = json.loads(done.stdout)
    return task.decoded(found["codes"], seed), found["seconds"], found["megabytes"]


def figures(task: Task, samples: pa.Table) -> dict[str, float]:
    """Distances of marginals over all columns and the label, AUC of boosting, and the share of distinct rows."""
    made, held = task.codes(samples), task.codes(task.test)
    sizes = task.sizes()
    return {
        "tvd1": float(np.mean([distance(made, held, sizes, (name,)) for name in sizes])),
        "tvd2": float(np.mean([distance(made, held, sizes, pair) for pair in itertools.combinations(sizes, 2)])),
        "auc": auc(task, samples),
        "distinct": len({repr(row) for row in samples.select([*task.schema.columns, "label"]).to_pylist()})
        / len(samples),
    }


def distance(
    made: dict[str, np.ndarray], held: dict[str, np.ndarray], sizes: dict[str, int], names: tuple[str, ...]
) -> float:
    """Total variation distance of the joint marginal of some columns."""
    shape = [sizes[name] for name in names]
    shares = []
    for codes in (made, held):
        cells = np.ravel_multi_index([codes[name] for name in names], shape)
        shares.append(np.bincount(cells, minlength=math.prod(shape)) / len(cells))
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def auc(task: Task, samples: pa.Table) -> float:
    """Area under the ROC curve of gradient boosting with its defaults; 0.5 if the samples have one label alone."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    positive = task.recipe.label_list[-1]
    truth = np.array(samples["label"].to_pylist()) == positive
    if truth.all() or not truth.any():
        return 0.5
    model = HistGradientBoostingClassifier(random_state=0).fit(encode_payload(samples, task.schema), truth)
    scores = model.predict_proba(encode_payload(task.test, task.schema))[:, 1]
    return float(roc_auc_score(np.array(task.test["label"].to_pylist()) == positive, scores))


def peers_python(folder: Path) -> str:
    """An environment with smartnoise-synth, made anew: some minutes and gigabytes."""
    subprocess.run([sys.executable, "-m", "venv", folder / "peers"], check=True)
    python = str(folder / "peers/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "smartnoise-synth>=1.0.8,<2"], check=True)
    return python


def compare(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Runs every method on every table, epsilon and seed, and prints each result as it comes."""
    others = [method for method in options.methods if method != "ours"]
    peers = Peers(options.peers or (peers_python(folder) if others else ""), options.limit)
    found = []
    for task in tasks(options, folder):
        for epsilon, method in itertools.product(options.epsilons, options.methods):
            for seed in range(options.seeds):
                if method == "ours":
                    made: tuple[pa.Table, float, float] | None = ours(task, epsilon, seed, folder, options.set)
                else:
                    made = peer(peers, method, task, epsilon, seed)
                if made is None:
                    break
                samples, seconds, megabytes = made
                own = figures(task, samples) | {"seconds": seconds, "megabytes": megabytes}
                found.append({"table": task.name, "epsilon": epsilon, "method": method, "seed": seed, **own})
                told = "  ".join(f"{name} {own[name]:.3f}" for name in FIGURES)
                print(f"{task.name:14} epsilon {epsilon:<4g} {method:5} seed {seed}: {told}", flush=True)
        real = [figures(task, real_rows(task, seed)) for seed in range(options.seeds)]
        medians = {name: float(np.median([each[name] for each in real])) for name in real[0]}
        found.append({"table": task.name, "epsilon": None, "method": "real", "seed": None, **medians})
        print(
            f"{task.name:14} real rows: " + "  ".join(f"{name} {value:.3f}" for name, value in medians.items()),
            flush=True,
        )
    return found


def real_rows(task: Task, seed: int) -> pa.Table:
    """As many training rows as there are samples, or all of them."""
    count = min(task.recipe.evolution.samples, task.train.num_rows)
    return task.train.take(np.random.default_rng(seed).choice(task.train.num_rows, count, replace=False))


def tell(found: list[dict[str, Any]]) -> None:
    """Prints medians over seeds as a table in Markdown."""
    print(f"\n| table | epsilon | method | {' | '.join(FIGURES)} |\n|{'---|' * (len(FIGURES) + 3)}")
    key = lambda each: (each["table"], each["epsilon"] or 0, each["method"])  # noqa: E731
    for (table, epsilon, method), rows in itertools.groupby(sorted(found, key=key), key):
        own = list(rows)
        cells = [f"{np.median([each[name] for each in own]):.3g}" if name in own[0] else "" for name in FIGURES]
        print(f"| {table} | {epsilon or ''} | {method} | {' | '.join(cells)} |")


def plot(found: list[dict[str, Any]], path: str) -> None:
    """Draws medians of TVD2 and AUC against epsilon, a column a table."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({each["table"] for each in found})
    figure, axes = plt.subplots(2, len(names), figsize=(3.2 * len(names), 5.6), squeeze=False, layout="constrained")
    for column, name in enumerate(names):
        for row, what in enumerate(("tvd2", "auc")):
            axis = axes[row][column]
            for method in METHODS:
                mine = [each for each in found if each["table"] == name and each["method"] == method]
                at = sorted({each["epsilon"] for each in mine})
                medians = [np.median([each[what] for each in mine if each["epsilon"] == epsilon]) for epsilon in at]
                axis.plot(at, medians, "o-", label=method)
            real = [each[what] for each in found if each["table"] == name and each["method"] == "real"]
            axis.axhline(real[0], color="gray", linestyle=":", label="real rows")
            axis.set(xscale="log", title=name if not row else "", ylabel=what, xlabel="epsilon" if row else "")
    axes[0][0].legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Compares, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="adult.csv, integer-coded")
    every = ["adult", "breast-cancer", "parity3", "parity5"]
    parser.add_argument("--tables", nargs="+", default=every, choices=every)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.3, 1.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000, help="of the made-up tables")
    parser.add_argument("--set", action="append", default=[], help="a.b=c of our recipes")
    parser.add_argument("--peers", help="a Python with smartnoise-synth")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one run of a peer may take")
    parser.add_argument("--json", help="file for all results")
    parser.add_argument("--plot", help="PNG file")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.tables, options.methods, options.epsilons, options.seeds, options.rows = (
            ["parity3"],
            ["ours"],
            [1.0],
            1,
            400,
        )
        options.set += ["evolution.samples=40", "evolution.population=40", "evolution.iterations=1"]
    with tempfile.TemporaryDirectory() as folder:
        found = compare(options, Path(folder))
    tell(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
