"""How soon `pe-beam watch` paints, and whether it grows, over a made-up run of many candidates.

    python benchmarks/watch.py --samples 100000
    python benchmarks/watch.py --toy

Iterations appear one after the other in a directory that is watched. The figures are Chromium's own: first paint
(PerformancePaintTiming) and the instant at which the gallery is drawn, from the start of navigation, of five
loads; and as a floor, the paint of an empty page. Then one page stays open while iterations go on to appear: an hour of
polls (3,600), drawings of ranges among them, and another hour in which nothing is new. Memory: resident memory of the
server, a process of its own, and the page's heap after a collection.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import _place
import numpy as np

from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png

_PAINT = "() => performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0]"
_DRAWN = "() => performance.getEntriesByName('gallery-drawn').map(entry => entry.startTime)[0]"


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--polls", type=int, default=3600)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.samples, options.iterations, options.loads, options.polls = 200, 2, 1, 20
    if not shutil.which(options.browser):
        print(f"nothing measured: there is no browser {options.browser}")
        return
    with tempfile.TemporaryDirectory() as folder:
        ready, run = Path(folder) / "ready", Path(folder) / "run"
        _made_up(ready, options.samples, options.iterations)
        half = options.iterations // 2
        run.mkdir()
        shutil.copy(ready / "recipe.yaml", run)
        for t in range(half + 1):
            _appear(ready, run, t)
        command = [sys.executable, "-m", "pe_beam", "watch", str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_place.ROOT) as server:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            try:
                _measure(url, server.pid, lambda t: _appear(ready, run, t), half, options)
            finally:
                server.terminate()


def _measure(url: str, pid: int, appear: Callable[[int], None], half: int, options: argparse.Namespace) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        floor = [_load(browser, "data:text/html,<p>empty", drawn=False)[0] for _ in range(options.loads)]
        loads = [_load(browser, url) for _ in range(options.loads)]
        first, drawn = zip(*loads, strict=True)
        print(f"{options.samples:,} candidates, {half} iterations; load average {os.getloadavg()[0]:.1f}")
        print(f"ms, {options.loads} loads:  empty page   first paint   gallery")
        for name, of in (("quickest", min), ("median", statistics.median), ("the first", lambda times: times[0])):
            print(f"{name:<15} {of(floor):12.0f} {of(first):13.0f} {of(drawn):9.0f}")
        page = browser.new_page()
        page.goto(url)
        page.locator("#shown .row").first.wait_for()
        print("polls   server MB   page's heap MB")
        print(f"{0:5d} {_resident(pid):11.1f} {_heap(page):16.2f}")
        done, steps = half, options.iterations - half
        for step in range(1, 2 * steps + 1):
            if done < options.iterations:
                done += 1
                appear(done)
            _poll(url, options.polls // steps, done)
            expect(page.locator("#population")).to_have_value(str(done), timeout=30_000)
            print(f"{step * (options.polls // steps):5d} {_resident(pid):11.1f} {_heap(page):16.2f}")
        browser.close()


def _load(browser: Any, url: str, *, drawn: bool = True) -> tuple[float, float]:
    page = browser.new_page()
    page.goto(url)
    found = _instant(page, _PAINT), _instant(page, _DRAWN) if drawn else 0.0
    page.close()
    return found


def _instant(page: Any, which: str) -> float:
    """Waits until the page has marked an instant. Not by `wait_for_function`, which its policy forbids."""
    for _ in range(600):
        found = page.evaluate(which)
        if found is not None:
            return float(found)
        page.wait_for_timeout(50)
    raise TimeoutError("the page was not painted in 30 s")


def _poll(url: str, polls: int, newest: int) -> None:
    """Asks as a page does: where the run stands, and every now and then for a range or a candidate's family."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    for turn in range(polls):
        what = "state"
        if turn % 20 == 0:
            code, order = turn // 20 % 10, ("id", "votes")[turn // 40 % 2]
            what = f"gallery?population={turn % (newest + 1)}&label={code}&start={24 * (turn % 50)}&order={order}"
        connection.request("GET", parts.path + what)
        connection.getresponse().read()
        time.sleep(0.002)
    connection.close()


def _resident(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096 / 1e6


def _heap(page: Any) -> float:
    """The heap of the page after a collection, in MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return float(metrics["JSHeapUsedSize"]) / 1e6


def _appear(ready: Path, run: Path, t: int) -> None:
    """Brings an iteration, its manifest last."""
    name = f"release/iteration={t:04d}"
    shutil.copytree(ready / name, run / name, ignore=shutil.ignore_patterns("manifest.json"))
    shutil.copy(ready / name / "manifest.json", run / name)


def _made_up(run: Path, samples: int, iterations: int) -> None:
    from tests.watch.conftest import made_up
    from tests.whole_runs import SMALL

    rng = np.random.default_rng(0)
    smooth = [np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(5000)]
    tiny = [encode_png(picture) for picture in smooth]

    def pictures(rows: int, rng: np.random.Generator) -> dict[str, list[Any]]:
        return {"image": [tiny[i] for i in rng.integers(0, len(tiny), rows)]}

    evolution = {"samples": samples, "population": samples, "iterations": iterations}
    made_up(run, SMALL | {"evolution": evolution}, MODALITY, pictures)


if __name__ == "__main__":
    main()
