"""Small runs on real digits, finished and half-way, and what is looked at in them."""

from __future__ import annotations

import itertools
import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.modalities.image.codec import encode_png

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "templates/recipes"
UNTESTED = "Flink was NOT tested: "


SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "source": "sklearn",
        "path": "digits",
        "labels": [str(x) for x in range(10)],
        "holdout": {"share": 0.8, "random_state": 0},  # few private records: most tests are not about them
        "expected_records": 360,
    },
    "modality": "image",
    "generator": {"name": "text-render", "side": 16},
    "embedder": {"name": "pixels", "size": 8},
    "evolution": {"iterations": 2, "samples": 40},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}


UNASKED: dict[str, Any] = {
    "name": "unasked",
    "data": {},
    "modality": "text",
    "generator": {"name": "llm", "backend": "huggingface", "model": "", "random": {"user": "x"}, "vary": {"user": "x"}},
    "embedder": {"name": "hashed-words", "dimension": 16},
    "evolution": {"iterations": 1, "samples": 10},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}
"""Texts, for what comes before a model is asked."""


UNREPORTED = b"no test reads this page"
"""Stands for the report of a run in tests that are not marked `reported`."""
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


def stop_at(place: Any, name: str, recipe: Any, run_dir: Path, secret_file: Path) -> None:
    """A run of a parsed recipe that stops where a function of a module is called."""
    from pe_beam.driver.loop import evolve
    from pe_beam.errors import PeBeamError

    def stop(*_: Any) -> Any:
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, stop)
        with pytest.raises(PeBeamError):
            evolve(recipe, run_dir, secret_file=secret_file)


def stop_before_the_first_vote(recipe: dict[str, Any], run_dir: Path, secret_file: Path) -> None:
    """A run with frozen embeddings and its random population, and nothing spent."""
    from pe_beam.driver import loop
    from pe_beam.errors import PeBeamError
    from pe_beam.recipe.loading import parse_recipe

    real = loop.run_iteration

    def stop(run: Any, iteration: int, job: Any) -> None:
        if iteration:
            raise PeBeamError("stopped")
        real(run, iteration, job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_iteration", stop)
        with pytest.raises(PeBeamError, match="stopped"):
            loop.evolve(parse_recipe(recipe), run_dir, secret_file=secret_file)


class Runs:
    """Runs with the fixed secret, each made once a session: nothing may be changed in them. `copied` may be.

    A test that does change one is not seen in itself but in a later one, so each is looked at before it is lent again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._made: dict[tuple[str, str], tuple[Path, list[tuple[Any, ...]]]] = {}
        self.secret_file = folder / "given.secret"
        self.secret_file.write_bytes(SECRET)

    def finished(self, recipe: dict[str, Any]) -> Path:
        """The directory of a whole run."""
        return self._run(recipe, "finished")

    def begun(self, recipe: dict[str, Any]) -> Path:
        """The directory of a run that `stop_before_the_first_vote` has stopped."""
        return self._run(recipe, "begun")

    def half(self, recipe: dict[str, Any]) -> Path:
        """The directory of a run that `stop_half_way` has stopped."""
        return self._run(recipe, "half")

    def _run(self, recipe: dict[str, Any], how: str) -> Path:
        from pe_beam.driver import finalize
        from pe_beam.driver.loop import evolve
        from pe_beam.recipe.loading import parse_recipe

        drawn = finalize.report_bytes.__module__ == finalize.__name__  # see conftest.py
        key = json.dumps(recipe, sort_keys=True), f"{how}, {'with' if drawn else 'without'} a report"
        if key not in self._made:
            run = self._folder / f"{next(self._numbers)}/run"  # one that fails leaves its folder to nobody
            if how == "half":
                stop_half_way(recipe, run, self.secret_file)
            elif how == "begun":
                stop_before_the_first_vote(recipe, run, self.secret_file)
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


def release_digests(run_dir: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file in release/."""
    top = run_dir / "release"
    files = sorted(path for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(top)): sha256(path.read_bytes()).hexdigest() for path in files}


def picture_table(rows: int, *, seed: int = 5) -> pa.Table:
    """Random pictures of ten labels."""
    rng = np.random.default_rng(seed)
    pictures = [encode_png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(rows)]
    labels = pa.array([str(i % 10) for i in range(rows)], pa.string())
    return pa.table({"image": pa.array(pictures, pa.binary()), "label": labels})


def parquet_recipe(small: dict[str, Any], table: pa.Table, folder: Path) -> dict[str, Any]:
    """The small recipe on a table of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "private-records.parquet")
    labels = [str(i) for i in range(10)]
    small["data"] = {"source": "parquet", "path": str(folder / "private-records.parquet"), "labels": labels}
    return small
