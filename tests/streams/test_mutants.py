"""Who belongs to a window is a function of stamps and of nothing else: what would break that is seen each time.

A made-up world has files that appear at some time, with a stamp of their own, and a driver that looks in now and then.
Windows are closed by the product, and by builds with one fault each. Whether a build keeps the rule is judged from the
committed manifests of two worlds that differ in one file (DESIGN, privacy rule 16).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pe_beam.contracts.store import Store
from pe_beam.contracts.stream import Cut, Span
from pe_beam.errors import PeBeamError
from pe_beam.recipe.models import Recipe
from pe_beam.sources.stream_files import FilesStream
from pe_beam.storage import open_store
from pe_beam.streams import closing
from pe_beam.streams.registry import ensure_key
from tests.streams.drifting import DAY, FIRST, put, stream_recipe

DAYS, GRACE = 4, timedelta(hours=2)
_places = itertools.count()


@dataclass(frozen=True)
class File:
    """A file of one record: its name, the day of its stamp, and when it appears."""

    name: str
    day: int
    appears: datetime

    @property
    def position(self) -> str:
        return f"{FIRST + self.day * DAY:%Y-%m-%d}-{self.name}.jsonl"


@dataclass(frozen=True)
class World:
    """Files, when a driver looks in, and the file that a neighbour lacks."""

    files: tuple[File, ...]
    visits: tuple[datetime, ...]
    missing: File


def world(seed: int) -> World:
    """One day has a single file, which the neighbour lacks; some files are late, and one comes after the release."""
    draw = random.Random(seed)
    files = []
    for day in range(DAYS):
        for place in range(1 if day == 1 else draw.randint(4, 6)):
            hours = draw.uniform(*{0: (20, 25), 2: (54, 60), 3: (30, 45)}.get(place, (13, 25)))
            files.append(File(f"f{place}", day, FIRST + day * DAY + timedelta(hours=hours)))
    start = FIRST + timedelta(hours=draw.uniform(0, 3))
    visits = [start + timedelta(hours=hours) for hours in range(0, 24 * (DAYS + 2), 3)]
    return World(tuple(files), tuple(visits), next(file for file in files if file.day == 1))


Close = Callable[[Recipe, Store, int], Any]
Due = Callable[[Recipe, int, datetime, list[File]], bool]


def by_schedule(recipe: Recipe, index: int, now: datetime, _: list[File]) -> bool:
    assert recipe.stream is not None
    return recipe.stream.window.closes(index) <= now


def manifests(
    folder: Path, files: tuple[File, ...], visits: tuple[datetime, ...], close: Close, due: Due
) -> list[bytes]:
    """The manifests that a driver commits; what it has committed is read again at each visit, as a resume does."""
    store = open_store(f"memory://mutants-{next(_places)}")
    ensure_key(store)
    recipe = stream_recipe(folder)
    left, seen, done = list(files), [], 0
    for now in visits:
        for file in [file for file in left if file.appears <= now]:
            put(folder, file.day, file.name, [file.day])
            left.remove(file)
            seen.append(file)
        while done < DAYS and due(recipe, done, now, seen):
            close(recipe, store, done)
            done += 1
        if done:
            close(recipe, store, done - 1)
    return [store.read(name) for name in store.list_files("private/registry/manifests")]


def faults(folder: Path, seed: int, close: Close = closing.close_window, due: Due = by_schedule) -> set[str]:
    """What is wrong with a build, judged from the manifests of two neighbouring worlds."""
    made = world(seed)
    some = [json.loads(data) for data in manifests(folder / "a", made.files, made.visits, close, due)]
    fewer = tuple(file for file in made.files if file != made.missing)
    other = [json.loads(data) for data in manifests(folder / "b", fewer, made.visits, close, due)]
    found = set()
    if len(some) != DAYS or len(other) != DAYS:
        found.add("a window without a manifest")
    held = [position for each in some for position in each["positions"]]
    if len(set(held)) != len(held):
        found.add("a position twice")
    for file in made.files:
        # a file in time is in the window of its stamp, and in no other; a late one in none
        closes = FIRST + (file.day + 1) * DAY + GRACE
        closed_at = next(visit for visit in made.visits if visit >= closes)
        wanted = [file.day] if file.appears <= closed_at else []
        if [each["index"] for each in some if file.position in each["positions"]] != wanted:
            found.add("a record in a window that is not its own")
    one = {each["index"]: set(each["positions"]) for each in some}
    two = {each["index"]: set(each["positions"]) for each in other}
    apart = [index for index in {*one, *two} if one.get(index, set()) != two.get(index, set())]
    if apart != [1] or one.get(1, set()) - two.get(1, set()) != {made.missing.position}:
        found.add("a record changes who else is in a window")
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_product_keeps_the_rule(tmp_path, seed):
    assert faults(tmp_path, seed) == set()


def _cut_by(change: Callable[[FilesStream, Span, list[Any], Any], list[Any]]) -> Callable[..., Cut]:
    """A `cut` that takes other files: `change` gives them from (all files listed with their stamps)."""
    original = FilesStream.cut

    def cut(self: FilesStream, span: Span, before: Any) -> Cut:
        everything = original(self, Span(FIRST, FIRST + 99 * DAY), None)
        taken = change(self, span, list(everything.members["files"]), before)
        return Cut({"files": taken}, [self._position(each["file"]) for each in taken])

    return cut


def _stamped(span: Span, entries: list[Any]) -> list[Any]:
    return [each for each in entries if span.has(datetime.fromisoformat(each["stamp"]))]


def _by_count(self: Any, span: Span, entries: list[Any], before: Any) -> list[Any]:
    first = round((span.start - FIRST) / DAY) * 3
    return entries[first : first + 3]


def _first_ones(self: Any, span: Span, entries: list[Any], before: Any) -> list[Any]:
    """At most four records in all the windows before and this one together."""
    return [each for each in entries[:4] if each in _stamped(span, entries)]


def _with_late(self: Any, span: Span, entries: list[Any], before: Any) -> list[Any]:
    """Whatever has come since, and what came before with it: at least once is not exactly once."""
    return [each for each in entries if datetime.fromisoformat(each["stamp"]) < span.stop]


def _early(recipe: Recipe, index: int, now: datetime, _: list[File]) -> bool:
    assert recipe.stream is not None
    return recipe.stream.window.span(index).stop - timedelta(hours=9) <= now


def _by_watermark(recipe: Recipe, index: int, now: datetime, seen: list[File]) -> bool:
    """Closes a window once a later stamp was seen."""
    return max((file.day for file in seen), default=-1) > index


def _unless_empty(recipe: Recipe, store: Store, index: int) -> None:
    span = recipe.stream.window.span(index)  # type: ignore[union-attr]
    if closing.stream_source(recipe).cut(span, None).positions:
        closing.close_window(recipe, store, index)


def _after_output(recipe: Recipe, store: Store, index: int) -> None:
    """Reads the members anew each time, as a build would that freezes them after its first output."""
    for name in store.list_files("private/registry"):
        if f"{FIRST + index * DAY:%Y%m%d}" in name:
            store.delete(name)
    closing.close_window(recipe, store, index)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "mutant",
    ["trigger by count", "early pane", "double delivery", "watermark", "skipped window", "after output", "global cap"],
)
def test_a_build_that_breaks_it_is_seen(tmp_path, monkeypatch, mutant, seed):
    close: Close = closing.close_window
    due: Due = by_schedule
    cuts = {"trigger by count": _by_count, "double delivery": _with_late, "global cap": _first_ones}
    if mutant in cuts:
        monkeypatch.setattr(FilesStream, "cut", _cut_by(cuts[mutant]))
        nothing = closing.np.zeros(0, "S16"), closing.np.zeros(0, closing.np.int32)
        monkeypatch.setattr(closing, "known_positions", lambda *_: nothing)
    elif mutant == "early pane":
        due = _early
    elif mutant == "watermark":
        due = _by_watermark
    elif mutant == "skipped window":
        close = _unless_empty
    else:
        close = _after_output
    try:
        assert faults(tmp_path, seed, close, due)
    except PeBeamError:
        assert mutant == "skipped window"  # the registry itself misses the window before
