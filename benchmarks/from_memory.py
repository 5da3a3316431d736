"""From a DataFrame to samples beside the command line: the same recipe, records and secret, in processes of their own.

    python benchmarks/from_memory.py --data ../shared/data/adult.csv
    python benchmarks/from_memory.py --toy

Adult's recipe: `pe-beam run` reads the CSV file as Parquet; the other reads it with pandas and calls
`pe_beam.evolve(recipe, dir, records=frame)`. Times are of whole processes; beside them the time from the DataFrame on,
with the import of pe_beam and without that of pandas, which whoever has a DataFrame has made. Pairs take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _place
import pyarrow.csv
import pyarrow.parquet as pq
from tables import made_up

from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import load_recipe

_IN_MEMORY = """
import sys, time, pandas
people = pandas.read_parquet(sys.argv[1])
began = time.perf_counter()
import pe_beam
run = pe_beam.evolve(sys.argv[2], sys.argv[3], records=people, secret_file=sys.argv[4])
samples = run.to_pandas()
print(time.perf_counter() - began)
"""


def seconds(command: list[str]) -> tuple[float, str]:
    """Wall time of a command, and what it prints."""
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Prints both medians and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="adult.csv, integer-coded")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if not (options.data or options.toy):
        parser.error("--data or --toy is wanted")
    with tempfile.TemporaryDirectory() as name:
        folder, settings = Path(name), []
        if options.toy:
            made_up(folder / "adult.csv", 300)
            options.data, options.pairs = folder / "adult.csv", 1
            settings = ["evolution.samples=40", "evolution.population=40", "evolution.iterations=1"]
        records, secret = folder / "adult.parquet", folder / "secret"
        pq.write_table(pyarrow.csv.read_csv(options.data), records)
        secret.write_bytes(bytes(range(32)))
        settings += ["data.source=parquet", f"data.path={records}", "data.holdout=null"]
        recipe = folder / "recipe.yaml"
        recipe.write_text(to_yaml(load_recipe(_place.RECIPES / "adult.yaml", settings)))
        line, memory, frame = [], [], []
        for pair in range(options.pairs):
            runs = [str(folder / f"{which}-{pair}") for which in ("line", "memory")]
            command = ["-m", "pe_beam", "run", str(recipe), "--run-dir", runs[0], "--secret-file", str(secret)]
            line.append(seconds([sys.executable, *command])[0])
            call = [str(records), str(recipe), runs[1], str(secret)]
            whole, printed = seconds([sys.executable, "-c", _IN_MEMORY, *call])
            memory.append(whole)
            frame.append(float(printed))
            same = [Path(run, "release/samples.parquet").read_bytes() for run in runs]
            assert same[0] == same[1], "the samples differ"
    print(f"medians of {options.pairs}: command line {statistics.median(line):.2f} s")
    for what, times in (("in memory, whole process", memory), ("from the DataFrame on", frame)):
        ratio = statistics.median(ours / its for ours, its in zip(times, line, strict=True))
        print(f"{what}: {statistics.median(times):.2f} s; ratio, median of pairs: {ratio:.3f}")


if __name__ == "__main__":
    main()
