"""A small stream of table rows in files, one a file's stamp, and a clock that tests set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.store import Store
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.storage import open_store
from pe_beam.streams.loop import Surroundings, stream
from tests.whole_runs import UNREPORTED

FIRST = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Clock:
    """Says what it was set to. To sleep sets it forward, until it has been asked to go beyond `stop`."""

    at: datetime
    stop: datetime | None = None

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        if self.stop is not None and self.at >= self.stop:
            raise KeyboardInterrupt


def stream_recipe(folder: Path, **changes: Any) -> Recipe:
    """A recipe of one iteration a day, of rows in `folder/in/DAY-NAME.jsonl`. `changes`: keys, `__` for a dot."""
    raw: dict[str, Any] = {
        "name": "drift",
        "seed": 7,
        "data": {
            "source": "jsonl",
            "path": str(folder / "in/*.jsonl"),
            "never_stop": True,
            "schema": {"columns": {"x": {"type": "integer", "min": 0, "max": 19}}},
        },
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 20},
        "privacy": {"epsilon": 2, "delta": 1e-5},
        "stream": {
            "stamp": "%Y-%m-%d*.jsonl",
            "fresh": 1,
            "window": {"every": "1d", "anchor": "2026-12-01T00:00Z", "close_after": "2h", "publish_after": "4h"},
        },
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = raw
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    if raw["privacy"].get("unit") == "client":
        raw["data"]["columns"] = {"client": "who"}
    (folder / "in").mkdir(parents=True, exist_ok=True)
    return parse_recipe(raw)


def put(folder: Path, day: int, name: str, rows: Sequence[Any]) -> Path:
    """Writes a file of rows, each a value of x or (x, client), stamped with the start of a day (0: the first)."""
    path = folder / "in" / f"{FIRST + day * DAY:%Y-%m-%d}-{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    full = [{"x": row[0], "who": row[1]} if isinstance(row, tuple) else {"x": row} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in full))
    return path


def secrets(folder: Path) -> Callable[[str], Path]:
    """A secret for each window, the same in every stream: its name, repeated."""
    folder.mkdir(parents=True, exist_ok=True)

    def of(name: str) -> Path:
        path = folder / name
        path.write_bytes((name * 4).encode()[:32])
        return path

    return of


@dataclass
class Life:
    """One stream at work in a folder, as a test drives it.

    Attributes:
      folder: has `in/`, `stream/` and `secrets/`.
      changes: of the recipe.
      options: Beam flags.
    """

    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    options: Sequence[str] = ()

    def until(self, days: float) -> Store:
        """Does what is due some days after the first window began."""
        clock = Clock(FIRST + days * DAY)
        around = Surroundings(
            beam_options=self.options, now=clock.now, sleep=clock.sleep, secrets=secrets(self.folder / "secrets")
        )
        recipe = stream_recipe(self.folder, **self.changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pe_beam.driver.finalize.report_bytes", lambda *_, **__: UNREPORTED)
            return stream(recipe, self.folder / "stream", once=True, around=around)


def window(day: int) -> str:
    """The name of the window of a day."""
    return f"{FIRST + day * DAY:%Y%m%dT%H%M%SZ}"


def released(store: Store, day: int) -> dict[str, str]:
    """File -> digest of all that a window has released, and of what says so."""
    folder = f"windows/{window(day)}/"
    names = [name for name in store.list_files(folder[:-1]) if name.startswith(f"{folder}release")]
    names.append(f"published/{window(day)}.json")
    return {name: store.digest(name) for name in names}


def manifest(store: Store, day: int) -> dict[str, Any]:
    """The committed manifest of a window."""
    found: dict[str, Any] = json.loads(store.read(f"private/registry/manifests/{window(day)}.json"))
    return found


def counts(store: Store, day: int, iteration: int = 1) -> list[int]:
    """The exact counts of a window, which stay where the recipe keeps what is private."""
    run = open_store(store.at(f"windows/{window(day)}"))
    with run.open(f"private/counts/iteration={iteration:04d}.parquet") as file:
        found: list[int] = pq.read_table(file)["count"].to_pylist()
    return found
