"""The holder's view of a stream: where it stands, what it promises, and its published samples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pe_beam.contracts.store import Store
from pe_beam.driver.status import status as run_status
from pe_beam.errors import InputError
from pe_beam.recipe.stream import instant_text
from pe_beam.storage.json_file import read_json
from pe_beam.streams.layout import (
    STREAM,
    closed_windows,
    finished_name,
    published_name,
    published_windows,
    window_dir,
    window_folder,
)
from pe_beam.streams.ledger import read_lines
from pe_beam.streams.promise import read_promise, stored_recipe


def is_stream(store: Store) -> bool:
    """Returns whether a directory is that of a stream."""
    return store.exists(STREAM)


def status(store: Store, now: datetime | None = None) -> dict[str, Any]:
    """Returns where a stream stands, for its holder only: nothing of it is a release.

    Args:
      store: of the stream.
      now: the instant to compare with the schedule; None: the machine's clock.
    """
    recipe, promise = stored_recipe(store), read_promise(store)
    assert recipe.stream is not None
    window, now = recipe.stream.window, now or datetime.now(UTC)
    closed, published = closed_windows(store), published_windows(store)
    behind = window.due(len(closed), now)
    missed = sum(bool(read_json(store, published_name(name), dict)["missed"]) for name in published[-30:])
    at_work = store.locked()
    running = None
    begun = closed and store.exists(f"{window_folder(closed[-1])}/recipe.yaml")
    if begun and len(published) < len(closed) and not store.exists(finished_name(closed[-1])):
        running = run_status(window_dir(store, closed[-1]))
    return {
        "name": recipe.name,
        "state": "running" if at_work else "no process is at work; the same command goes on",
        "windows_closed": len(closed),
        "windows_published": len(published),
        "windows_due": f"{behind}",
        "last_published": published[-1] if published else None,
        "missed_of_the_last_30": missed,
        "next_window_closes": instant_text(window.closes(len(closed))),
        "next_publication": instant_text(window.publishes(len(published))) if len(published) < len(closed) else None,
        "epsilon": promise["epsilon"],
        "delta": promise["delta"],
        "client_windows": promise["client_windows"],
        "window_at_work": None if running is None else {key: running.get(key) for key in _OF_A_WINDOW},
    }


_OF_A_WINDOW = ("state", "stage", "job", "iterations_done", "iterations")


def privacy(store: Store) -> dict[str, Any]:
    """Returns what a stream promises, and the lines of its ledger by window."""
    promise = read_promise(store)
    shown = ("window", "iteration", "sigma", "sensitivity", "noise_multiplier")
    return promise | {"ledger": [{key: line[key] for key in shown} for line in read_lines(store)]}


def newest_published(store: Store) -> str:
    """Returns the run directory of the newest published window. Raises InputError if there is none."""
    published = published_windows(store)
    if not published:
        raise InputError(f"{store.uri}: no window is published yet")
    return window_dir(store, published[-1])
