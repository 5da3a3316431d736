"""Shared set-up: a small recipe and a fixed secret for runs that have to be repeatable."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Threads of OpenMP that wait for each other sleep. They would spin, and where two workers of the tests share two cores
# they spin in each other's way: MiniLM takes five times as long. There are as many threads as ever.
# OpenMP reads it once, when the first library loads it; processes that a test starts have it too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

UNTESTED = "Flink was NOT tested: "
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "source": "sklearn",
        "path": "digits",
        "labels": [str(x) for x in range(10)],
        "holdout": {"share": 0.3, "random_state": 0},
        "expected_records": 1250,
    },
    "modality": "image",
    "generator": {"name": "text-render", "side": 16},
    "embedder": {"name": "pixels", "size": 8},
    "evolution": {"iterations": 2, "samples": 40},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}


SECRET = bytes(range(32))
"""What makes a run repeatable: that of `secret_file` and of `runs`."""


def stop_half_way(recipe: dict[str, Any], run_dir: Path, secret_file: Path, *, unroll: bool = False) -> None:
    """A run that stops in iteration 2, with that iteration's ledger line and histogram already there."""
    from pe_beam.driver.loop import evolve
    from pe_beam.engine import steps
    from pe_beam.errors import PeBeamError
    from pe_beam.recipe.loading import parse_recipe

    real = steps.commit_selection

    def stop(run: Any, iteration: int) -> Any:
        if iteration == 2:
            raise RuntimeError("stopped")
        return real(run, iteration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "commit_selection", stop)
        with pytest.raises(PeBeamError, match="Select failed"):
            evolve(parse_recipe(recipe), run_dir, secret_file=secret_file, unroll=unroll)


class Runs:
    """Runs with the fixed secret, each made once a session: nothing may be changed in them. `copied` may be.

    A test that does change one is not seen in itself but in a later one, so each is looked at before it is lent again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, bool], tuple[Path, list[tuple[Any, ...]]]] = {}
        self.secret_file = folder / "given.secret"
        self.secret_file.write_bytes(SECRET)

    def finished(self, recipe: dict[str, Any]) -> Path:
        """The directory of a whole run."""
        return self._run(recipe, half=False)

    def half(self, recipe: dict[str, Any]) -> Path:
        """The directory of a run that `stop_half_way` has stopped."""
        return self._run(recipe, half=True)

    def _run(self, recipe: dict[str, Any], *, half: bool) -> Path:
        from pe_beam.driver.loop import evolve
        from pe_beam.recipe.loading import parse_recipe

        key = json.dumps(recipe, sort_keys=True), half
        if key not in self._made:
            run = self._folder / f"{len(self._made)}/run"
            if half:
                stop_half_way(recipe, run, self.secret_file)
            else:
                evolve(parse_recipe(recipe), run, secret_file=self.secret_file)
            self._made[key] = run, _looks(run)
        self.check()
        return self._made[key][0]

    def check(self) -> None:
        """Raises: AssertionError if a test has changed one of them."""
        for made, looked in self._made.values():
            assert _looks(made) == looked, f"a test changed {made}, which all tests share"


def _looks(run: Path) -> list[tuple[Any, ...]]:
    """Each file with its size and the time of its last change."""
    found = [(path, path.stat()) for path in sorted(run.rglob("*")) if path.is_file()]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found]


def copied(run: Path, to: Path) -> Path:
    """A run's directory in another place, times and rights and all, where a test may do with it what it likes."""
    return Path(shutil.copytree(run, to, symlinks=True))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """See `Runs`."""
    made = Runs(tmp_path_factory.mktemp("runs"))
    yield made
    made.check()


@pytest.fixture
def small() -> dict[str, Any]:
    """A recipe on real digits that runs in seconds, as plain data that a test may change."""
    return copy.deepcopy(SMALL)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """32 bytes that make a run repeatable."""
    path = tmp_path / "given.secret"
    path.write_bytes(SECRET)
    return path


LONG = ("flink", "text-offline", "benchmarks", "published-tables", "tabicl")
"""Groups of tests that share one worker, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups begin first: one that begins last leaves the other worker with nothing to do."""

    def place(item: pytest.Item) -> int:
        group = item.get_closest_marker("xdist_group")
        return LONG.index(group.args[0]) if group and group.args[0] in LONG else len(LONG)

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says aloud which runners were left out: a skip is easily overlooked."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if "NOT tested" in reason:
            terminalreporter.write_sep("=", reason.removeprefix("Skipped: "), yellow=True, bold=True)
