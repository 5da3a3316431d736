"""Publishes the release of a window at its scheduled instant, and deletes what is private of it and too old."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pe_beam.contracts.store import Store
from pe_beam.driver.purge import purge
from pe_beam.engine.run import open_run
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.stream import instant, instant_text
from pe_beam.recipe.windows import memory_name, window_name
from pe_beam.streams.layout import finished_name, published_name, published_windows, window_dir, window_folder
from pe_beam.streams.registry import forget_older

VERSION = 1


def note_finished(store: Store, name: str, now: datetime) -> None:
    """Records when a window's run was done, if that is not recorded yet. Private."""
    store.commit(finished_name(name), instant_text(now).encode())


def publish(recipe: Recipe, store: Store, index: int) -> None:
    """Makes the release of a complete window public at its instant, then deletes its private part.

    The note says the instant of the schedule, and whether the release was ready by then; no other time.
    """
    assert recipe.stream is not None
    name, due = window_name(recipe, index), recipe.stream.window.publishes(index)
    ready = instant(store.read(finished_name(name)).decode())
    note: dict[str, Any] = {
        "version": VERSION,
        "window": name,
        "start": instant_text(recipe.stream.window.span(index).start),
        "stop": instant_text(recipe.stream.window.span(index).stop),
        "published": instant_text(due),
        "missed": ready > due,
    }
    release = open_run(window_dir(store, name)).layout.release
    note["release"] = f"{window_folder(name)}/{release}"
    store.commit(published_name(name), (json.dumps(note, indent=1) + "\n").encode())
    tidy(recipe, store, index)


def tidy(recipe: Recipe, store: Store, index: int) -> None:
    """Deletes the private part of a published window, and the windows that are older than those to keep."""
    assert recipe.stream is not None
    name = window_name(recipe, index)
    if not recipe.stream.keep_private:
        purge(window_dir(store, name))
    store.delete(finished_name(name))
    forget_older(store, name)
    if recipe.stream.memory is not None and index >= recipe.stream.memory.windows:
        store.delete(memory_name(window_name(recipe, index - recipe.stream.memory.windows)))
    if recipe.stream.keep is not None and index >= recipe.stream.keep:
        store.remove(window_folder(window_name(recipe, index - recipe.stream.keep)))


def forget_windows(recipe: Recipe, store: Store) -> None:
    """Deletes all published windows that are older than those to keep, for a recipe that keeps fewer than before."""
    assert recipe.stream is not None
    if recipe.stream.keep is not None:
        there = {name.split("/")[1] for name in store.list_files("windows")}
        for old in there & set(published_windows(store)[: -recipe.stream.keep]):
            store.remove(window_folder(old))
