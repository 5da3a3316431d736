"""Closes, runs and publishes the windows of a stream that are due, each once and in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO

from pe_beam.books.entering import demand_entered
from pe_beam.contracts.store import Store
from pe_beam.driver.loop import evolve
from pe_beam.driver.parts import check_parts
from pe_beam.engine.memory import demand_memory, remember
from pe_beam.engine.run import Run
from pe_beam.errors import InputError, RecipeError, ServiceError
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.stream import instant_text
from pe_beam.recipe.windows import manifest_name, memory_name, window_name, window_recipe
from pe_beam.storage import open_store
from pe_beam.streams import booking
from pe_beam.streams.clock import SteadyClock
from pe_beam.streams.closing import close_window, stream_source
from pe_beam.streams.layout import LEDGER, closed_windows, finished_name, published_windows, window_dir
from pe_beam.streams.ledger import read_lines, refuse_other_members, write_lines
from pe_beam.streams.promise import pin_promise, pin_recipe
from pe_beam.streams.publishing import forget_windows, note_finished, publish, tidy
from pe_beam.streams.registry import commit_clients, ensure_key
from pe_beam.streams.report import report

_PAUSE = 300.0  # seconds before a service that did not answer is asked again
_NAP = 30.0  # seconds between two looks at the clock, which a machine that slept may have set


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a stream is run with, besides its recipe and directory.

    Attributes:
      beam_options: Beam flags for each window's jobs.
      progress: stream for progress lines; None for no progress.
      secrets: name of a window -> file of 32 raw bytes to use as its secret (for tests); None: each draws its own.
      now: the clock that says what is due (`clock`). It decides on no record's window.
      sleep: waits some seconds.
    """

    beam_options: Sequence[str] = ()
    progress: TextIO | None = None
    secrets: Callable[[str], str | Path] | None = None
    now: Callable[[], datetime] = field(default_factory=lambda: SteadyClock().now)
    sleep: Callable[[float], None] = time.sleep


def stream(recipe: Recipe, stream_dir: str | Path, *, once: bool = False, around: Surroundings | None = None) -> Store:
    """Closes the windows that are due, runs each, and publishes each at its instant.

    Windows that were missed while no process was at work are cut by the same stamps, and run in order. A window that
    was interrupted goes on where it was.

    Args:
      recipe: with a section `stream`.
      stream_dir: a directory, which is made if it does not exist, or the URL of a store.
      once: does what is due now and returns; else it goes on until it is interrupted, also after a service that does
        not answer for a while.
      around: Beam flags, progress, clock; None: the machine's.

    Returns:
      The store of the stream's directory.

    Raises:
      InputError: a bad recipe, another recipe or promise than the stream's, or a missing registry (exit status 2).
      PeBeamError: a locked directory, a disk error, a failed stage (exit status 1). The same call goes on.
    """
    around = around or Surroundings()
    store = open_store(stream_dir)
    with store.lock():
        work = _Stream.open(recipe, store, around)
        while True:
            try:
                work.catch_up()
            except ServiceError as error:
                if once:
                    raise
                work.pause(str(error))
                continue
            if once:
                return store
            work.wait()


@dataclass
class _Stream:
    """A stream at work, under its lock.

    Attributes:
      recipe: of the stream.
      store: of its directory.
      around: what it is run with.
      closed: number of windows whose members are committed.
      done: number of windows whose runs are at their end.
      published: number of published windows.
    """

    recipe: Recipe
    store: Store
    around: Surroundings
    closed: int
    done: int
    published: int

    @classmethod
    def open(cls, recipe: Recipe, store: Store, around: Surroundings) -> _Stream:
        """Checks recipe, promise, registry and source, and finds out where the stream stands."""
        if recipe.stream is None:
            raise RecipeError("stream: wanted in the recipe of a stream: window: {every, anchor}, ...")
        if recipe.stream.at is not None:
            raise RecipeError(
                "stream.at: the recipe of one window, which `pe-beam stream` writes; that of the stream is wanted"
            )
        check_parts(recipe)
        if any(f"{place}/".startswith(f"{recipe.data.path.rstrip('/')}/") for place in (store.uri, store.place())):
            raise RecipeError("data.path: the stream's directory lies in it, and its files would be taken for records")
        stream_source(recipe).check()
        pin_recipe(recipe, store)
        ensure_key(store)
        pin_promise(recipe, store)
        closed, published, lines = closed_windows(store), published_windows(store), read_lines(store)
        _refuse_gaps(recipe, closed, published, {str(line["window"]) for line in lines})
        refuse_other_members(store, lines)
        booking.enter(recipe, store)
        if len(published) < len(closed):
            close_window(recipe, store, len(closed) - 1)  # a kill may have left it half closed
        # A run that was killed at its end may be complete and still have its secret: it is run to its end again.
        ended = not closed or len(published) == len(closed) or store.exists(finished_name(closed[-1]))
        found = cls(recipe, store, around, len(closed), len(closed) - (not ended), len(published))
        if published:
            tidy(recipe, store, len(published) - 1)  # a kill may have left it
            forget_windows(recipe, store)
        if not lines and around.progress is not None:  # nothing is spent yet
            for warning in make_plan(recipe).warnings:
                print(f"warning: {warning}", file=around.progress, flush=True)
        return found

    def catch_up(self) -> None:
        """Does all that is due, and writes the report if a window was published."""
        before = self.published
        self._tell_due()
        while self.step():
            pass
        if self.published > before:
            report(self.store)

    def _tell_due(self) -> None:
        assert self.recipe.stream is not None
        due = self.recipe.stream.window.due(self.closed, self.around.now())
        if due > 1:
            self._say(self.closed, f"the first of {due} that are due; all are closed and run, in order")

    def pause(self, why: str) -> None:
        """Waits before what a service has refused is tried again."""
        self._say(self.published, f"{why}; tries again in {_PAUSE:.0f} s")
        self.around.sleep(_PAUSE)

    def step(self) -> bool:
        """Does the next thing that is due. Returns False if nothing is."""
        assert self.recipe.stream is not None
        window, now = self.recipe.stream.window, self.around.now()
        if self.published < self.done:
            if window.publishes(self.published) > now:
                return False
            publish(self.recipe, self.store, self.published)
            self._say(self.published, "published")
            self.published += 1
        elif self.done < self.closed:
            self._run(self.done)
            self.done += 1
        elif window.closes(self.closed) <= now:
            close_window(self.recipe, self.store, self.closed)
            self._say(self.closed, "closed")
            self.closed += 1
        else:
            return False
        return True

    def wait(self) -> None:
        """Waits until the next window closes, or the last one is published."""
        assert self.recipe.stream is not None
        window = self.recipe.stream.window
        due = window.publishes(self.published) if self.published < self.done else window.closes(self.closed)
        self._say(self.published if self.published < self.done else self.closed, f"waits until {instant_text(due)}")
        while (left := (due - self.around.now()).total_seconds()) > 0:
            self.around.sleep(min(left, _NAP))

    def _run(self, index: int) -> None:
        """Runs a window to its end. It starts from the release of the window before, which is complete."""
        name, secrets = window_name(self.recipe, index), self.around.secrets
        before = window_dir(self.store, window_name(self.recipe, index - 1)) if index else None
        run = evolve(
            window_recipe(self.recipe, index, stream_dir=self.store.uri, before=before),
            window_dir(self.store, name),
            self.around.beam_options,
            secret_file=None if secrets is None else secrets(name),
            progress=self.around.progress,
            on_frozen=lambda run: self._before_spending(run, index),
        )
        if self.recipe.stream is not None and self.recipe.stream.memory is not None:
            self.store.commit(memory_name(name), remember(run))
        note_finished(self.store, name, self.around.now())

    def _before_spending(self, run: Run, index: int) -> None:
        """Commits the clients of a window, then writes the lines of the stream's ledger."""
        self.store.demand_lock()
        demand_entered(self.store)
        demand_memory(run)
        name, before = window_name(self.recipe, index), window_name(self.recipe, index - 1) if index else None
        if self.recipe.privacy.unit == "client":
            commit_clients(self.store, run, before)
        write_lines(self.store, run, name, self.store.read_committed(manifest_name(name)))

    def _say(self, index: int, what: str) -> None:
        if self.around.progress is not None:
            print(f"window {window_name(self.recipe, index)}: {what}", file=self.around.progress, flush=True)


def _refuse_gaps(recipe: Recipe, closed: list[str], published: list[str], paid: set[str]) -> None:
    """Raises InputError unless the registry has all windows from the first on, and the ledger all published ones."""
    tiled = [window_name(recipe, index) for index in range(len(closed))]
    if closed != tiled or published != tiled[: len(published)] or not paid <= set(tiled):
        raise InputError(
            "private/registry: does not have all windows of this stream; without it no stream goes on. Put it back as "
            "it was, or start a new stream"
        )
    if not paid >= set(published):
        raise InputError(f"{LEDGER}: does not have all published windows; put it back as it was, or start a new stream")
