"""The offline text recipe over several seeds: classifier and Fréchet distance of the first and the last population.

.venv/bin/python -m benchmarks.text_quality 3
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.text.test_offline import evolve_offline, prepare, quality


def main(seeds: int) -> None:
    """Prints a line a seed, then the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rows = []
        for seed in range(seeds):
            evolve_offline(folder, f"run-{seed}", seed=seed)
            first, last = quality(folder, f"run-{seed}").values()
            rows.append((*first, *last))
            print(
                f"seed {seed}: accuracy {first[0]:.3f} -> {last[0]:.3f}, Fréchet {first[1]:.3f} -> {last[1]:.3f}",
                flush=True,
            )
        middle = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(f"median: accuracy {middle[0]:.3f} -> {middle[2]:.3f}, Fréchet {middle[1]:.3f} -> {middle[3]:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
