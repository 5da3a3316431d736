"""How long a report takes, how large it is, and how soon a browser paints it.

    python benchmarks/report.py RUN_DIR...      reports of these runs
    python benchmarks/report.py --samples 100000   a made-up release of that many pictures (needs the [dev] extra)
    python benchmarks/report.py --toy

First paint is Chromium's own figure (PerformancePaintTiming), the median of five loads of the file.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import _place  # noqa: F401  (tests/ is on the path from here)
import numpy as np

from pe_beam.engine.run import open_run
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png
from pe_beam.report.build import build, history_of
from pe_beam.report.history import History

LOADS = 5
_PAINT = "() => performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0]"


def main() -> None:
    """Prints one line a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", nargs="*")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    options.samples = 200 if options.toy else options.samples
    if not shutil.which(options.browser):
        print(f"nothing measured: there is no browser {options.browser}")
        return
    print("report                      build s       MB   first paint ms (median of 5, slowest)")
    for path in options.run_dirs:
        run = open_run(path)
        _measure(path, history_of(run.store.at(run.layout.release)), options.browser)
    if options.samples:
        with tempfile.TemporaryDirectory() as folder:
            history, loads = _made_up(Path(folder) / "release", options.samples), 1 if options.toy else LOADS
            _measure(f"{options.samples:,} samples", history, options.browser, loads)


def _measure(name: str, history: History, browser: str, loads: int = LOADS) -> None:
    began = time.monotonic()
    data = build(history, MODALITY)
    took = time.monotonic() - began
    with tempfile.NamedTemporaryFile(suffix=".html") as file:
        file.write(data)
        file.flush()
        paints = _paints(file.name, browser, loads)
    middle, slowest = statistics.median(paints), max(paints)
    print(f"{name[-26:]:<26} {took:8.2f} {len(data) / 1e6:8.2f} {middle:10.0f} {slowest:10.0f}")


def _paints(path: str, browser: str, loads: int) -> list[float]:
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(loads):
            page = started.new_page()
            page.goto(Path(path).as_uri())
            found.append(float(page.evaluate(_PAINT)))
            page.close()
        started.close()
    return found


def _made_up(folder: Path, samples: int) -> History:
    from tests.report.releases import write_release
    from tests.whole_runs import SMALL

    rng = np.random.default_rng(0)
    smooth = [np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(5000)]
    tiny = [encode_png(picture) for picture in smooth]

    def pictures(rows: int, rng: np.random.Generator) -> dict[str, list[Any]]:
        return {"image": [tiny[i] for i in rng.integers(0, len(tiny), rows)]}

    evolution = {"samples": samples, "iterations": 10}
    return write_release(folder, SMALL | {"evolution": evolution}, MODALITY, pictures)


if __name__ == "__main__":
    main()
