"""Follows a directory that is, or becomes, that of a run or of a stream. Of a stream one window is shown at a time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

from pe_beam.contracts.store import Store
from pe_beam.errors import InputError
from pe_beam.storage import open_store
from pe_beam.streams.layout import closed_windows, published_windows, window_dir, window_folder
from pe_beam.streams.promise import read_promise, stored_recipe
from pe_beam.streams.status import is_stream, status
from pe_beam.watch.following import Follower, telling
from pe_beam.watch.populations import Populations

_WINDOWS = 3  # windows that are followed at a time
_LINKS = 30  # windows that are linked
_SELDOM = 10  # a stream is looked at so many times less often than a run


class Watched:
    """A directory, as the page shows it.

    Args:
      uri: of a run or a stream, which need not be there yet.
    """

    def __init__(self, uri: str) -> None:
        self.store: Store = open_store(uri)
        self._shelf = Populations.new_shelf()
        self._run = Follower(uri, self._shelf)
        self._windows: OrderedDict[str, Follower] = OrderedDict()
        self._latest: tuple[float, dict[str, Any]] | None = None
        self._mutex = threading.RLock()

    @property
    def patience(self) -> float:
        """Seconds between two looks."""
        return self._run.patience

    def state(self, window: str | None = None) -> dict[str, Any]:
        """Returns where the run or the stream stands, as JSON data; `window`: of a stream, None is its newest."""
        found = telling(self._stream, None if self._latest is None else self._latest[1])
        if found.get("kind") == "trouble" and self._latest is None:
            return found  # whether it is a run or a stream is not known
        if found.get("kind") != "stream":
            return self._run.state()
        shown = window if window is not None else found["newest"]
        known = {each["name"]: each["published"] for each in found["windows"]}
        if shown not in known:
            run: dict[str, Any] = {"kind": "waiting"}
        else:
            run = self._window(shown).state()
        return found | {"shown": shown, "published": known.get(shown, False), "run": run}

    def populations(self, window: str | None = None) -> Populations:
        """Returns the released populations of a run, or of a window. Raises InputError if there is no such window."""
        found = self._stream()
        if not found:
            return self._run.populations()
        shown = window if window is not None else found["newest"]
        if shown not in {each["name"] for each in found["windows"]}:
            raise InputError("there is no such window, or its release is no longer kept")
        return self._window(shown).populations()

    def _window(self, name: str) -> Follower:
        """Returns who follows a window, whose name was found in the stream's directory."""
        with self._mutex:
            if name not in self._windows:
                self._windows[name] = Follower(window_dir(self.store, name), self._shelf)
            self._windows.move_to_end(name)
            while len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
            return self._windows[name]

    def _stream(self) -> dict[str, Any]:
        """Returns where a stream stands; empty if this is no stream, or not yet."""
        with self._mutex:
            if self._latest is None or time.monotonic() - self._latest[0] >= self.patience * _SELDOM:
                self._latest = time.monotonic(), self._look() if is_stream(self.store) else {}
            return self._latest[1]

    def _look(self) -> dict[str, Any]:
        promise, recipe = read_promise(self.store), stored_recipe(self.store)
        assert recipe.stream is not None
        closed, published = closed_windows(self.store), set(published_windows(self.store))
        kept = closed[-_LINKS:] if recipe.stream.keep is None else closed[-min(_LINKS, recipe.stream.keep + 1) :]
        begun = [name for name in kept if name in published or self._has_begun(name)]
        return {
            "kind": "stream",
            "trouble": None,
            "private": promise["epsilon"] != "inf",
            "public": {
                "name": promise["name"],
                "statement": promise["statement"],
                "every": promise["window"]["every"],
            },
            "holder": {
                "dir": self.store.uri,
                **{key: value for key, value in status(self.store).items() if key in _TOLD},
            },
            "windows": [{"name": name, "published": name in published} for name in begun],
            "newest": begun[-1] if begun else None,
        }

    def _has_begun(self, name: str) -> bool:
        return self.store.exists(f"{window_folder(name)}/recipe.yaml")


_TOLD = (
    *("state", "windows_closed", "windows_published", "windows_due", "last_published", "missed_of_the_last_30"),
    *("next_window_closes", "next_publication"),
)
