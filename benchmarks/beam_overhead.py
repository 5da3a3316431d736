"""What Beam and the run directory cost: `pe_beam.evolve` on the digits recipe beside the same loop in plain NumPy.

    python benchmarks/beam_overhead.py [--repeats 3] [--toy]

Both run in one process, in turn. Prints medians: seconds of an iteration of each, and their difference.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from _place import RECIPES
from digits_sketch import evolve_in_numpy, load_digits

import pe_beam
from pe_beam.engine.run import Run


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    small = {"evolution.iterations": 1, "evolution.samples": 100} if options.toy else {}
    recipe = pe_beam.load_recipe(RECIPES / "digits.yaml", small)
    run = Run("memory://nowhere", recipe)
    real, codes = load_digits(run, "train")
    plain, engine, whole = [], [], []
    for seed in range(1 if options.toy else options.repeats):
        began = time.perf_counter()
        evolve_in_numpy(run, seed, real, codes)
        plain.append((time.perf_counter() - began) / recipe.evolution.iterations)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            pe_beam.evolve(recipe, folder)
            whole.append(time.perf_counter() - began)
            times = [json.loads(line) for line in (Path(folder) / "private/times.jsonl").read_text().splitlines()]
        engine += [x["seconds"] for x in times if x["what"].startswith("iteration ") and x["what"] != "iteration 0"]
    loop, beam = statistics.median(plain), statistics.median(engine)
    print(f"seconds an iteration: NumPy {loop:.2f}, engine {beam:.2f}, overhead {beam - loop:.2f}")
    print(f"whole run in a warm process: {statistics.median(whole):.1f} s")


if __name__ == "__main__":
    main()
