"""Progress of a run: one line that updates itself on a terminal, plain lines in a pipe.

It shows only declared facts and shares of work done. Plain lines have no duration of a private stage (rule 7).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TextIO

from pe_beam.engine.ingest import left_columns, left_out, share_done, told_facts
from pe_beam.engine.manifests import read_manifest
from pe_beam.engine.measuring import steps_of
from pe_beam.engine.run import Run
from pe_beam.errors import PeBeamError
from pe_beam.privacy.subsampled import Spending

JOB = "work/job.json"
"""File with label and runner of the Beam job that runs now, for `status`."""
TIMES = "private/times.jsonl"
"""File with the duration of each part, for `status`."""

_NAMES = 20
"""Largest number of names of columns that are left out in one line."""


class Progress:
    """Prints the progress of a run. It is silent if `stream` is None."""

    def __init__(
        self, run: Run, stream: TextIO | None = sys.stderr, unheard: Callable[[str], None] | None = None
    ) -> None:
        """Takes the run, the stream, and what takes warnings where there is no stream, and starts the clock."""
        self._run = run
        self._unheard = unheard
        self._stream = stream
        self._live = bool(stream is not None and stream.isatty())
        self._began = time.monotonic()
        self._done_before: int | None = None

    def say(self, text: str) -> None:
        """Prints one plain line."""
        if self._stream is not None:
            start = "\r\x1b[K" if self._live else ""
            print(start + text, file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        """Prints a warning before budget is spent, or hands it over."""
        if self._stream is not None:
            self.say(f"warning: {text}")
        elif self._unheard is not None:
            self._unheard(text)

    @contextlib.contextmanager
    def ingest(self) -> Iterator[None]:
        """Shows the share of the private data that is embedded. Plain lines say only that embedding began."""
        self.say("embedding the private records")
        with self._living(lambda: f"embedding the private records  {share_done(self._run):4.0%}"):
            yield

    def left_out(self) -> None:
        """Prints the kinds of faults that left records out, never how many. Prints nothing under `data.never_stop`."""
        kinds = left_out(self._run)
        if kinds:
            self.say(f"left out: {'; '.join(kinds)} (file and row of each are in private/rejects/)")

    def left_columns(self) -> None:
        """Prints what reading has left out: columns that the schema does not declare, and what the source tells."""
        found = left_columns(self._run)
        shown = [ascii(name)[1:-1] for name in found if name]
        more = f" and {len(shown) - _NAMES} more" if len(shown) > _NAMES else ""
        if shown:
            self.say(f"columns left out, for data.schema does not declare them: {', '.join(shown[:_NAMES])}{more}")
        if "" in found:
            self.say("records have keys that data.schema does not declare; they are left out")
        for fact in told_facts(self._run):
            self.say(fact)

    @contextlib.contextmanager
    def iteration(self, iteration: int) -> Iterator[None]:
        """Shows the stages of an iteration while its job runs, and prints a line when it is done."""
        if iteration < 0:
            yield
            self.say(f"measured: {steps_of(self._run)[iteration].name}")
            return
        total = self._run.recipe.evolution.iterations
        if self._done_before is None:
            self._done_before = iteration
            self._began = time.monotonic()
        with self._living(lambda: self._line(iteration, total)):
            yield
        if iteration == 0 and (last := steps_of(self._run).get(0)) is not None:
            self.say(f"measured: {last.name}")
        self._done(iteration, self._spent(iteration))

    def _done(self, iteration: int, spent: str) -> None:
        """Prints one line, with what the release says too: labels that fell back, a generator that fails."""
        manifest = read_manifest(self._run, iteration) or {}
        fallen = manifest.get("selection", {}).get("fallback", {})
        where = f" for label {', '.join(ascii(label)[1:-1] for label in sorted(fallen))}" if any(fallen) else ""
        note = f"; nothing passed the threshold{where}" if fallen else ""
        note += _refused(manifest)
        self.say(f"iteration {iteration}/{self._run.recipe.evolution.iterations} done; {spent}{note}")

    @contextlib.contextmanager
    def unrolled(self, first: int) -> Iterator[None]:
        """Shows one job of all iterations from `first` on, and prints a line when an iteration is committed."""
        total = self._run.recipe.evolution.iterations
        self._done_before, self._began = first, time.monotonic()
        current = first

        def line() -> str:
            nonlocal current
            while current <= total and read_manifest(self._run, current) is not None:
                self._done(current, self._spent(total))  # the whole budget is spent before the job
                current += 1
            return self._line(min(current, total), total)

        with self._living(line, tells=True):
            yield
        line()

    @contextlib.contextmanager
    def _living(self, text: Callable[[], str], *, tells: bool = False) -> Iterator[None]:
        """Prints the line that `text` gives, five times a second while the body runs, if the stream is a terminal.

        In a pipe `text` is called as often if it `tells` by itself what has happened, else never: it asks the store.
        What the store does not answer is asked again.
        """
        shown = self._live or (tells and self._stream is not None)
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                with contextlib.suppress(PeBeamError):
                    line = text()
                    if self._live:
                        print(f"\r\x1b[K{line}", end="", file=self._stream, flush=True)
            if self._live:
                print("\r\x1b[K", end="", file=self._stream, flush=True)

        watcher = threading.Thread(target=watch, daemon=True)
        if shown:
            watcher.start()
        try:
            yield
        finally:
            stop.set()
            if shown:
                watcher.join()

    def _line(self, iteration: int, total: int) -> str:
        stage, share = stage_of(self._run, iteration)
        done = (iteration + share) / (total + 1)
        before = (self._done_before or 0) / (total + 1)
        spent = time.monotonic() - self._began
        clock = f"{spent * (1 - done) / (done - before):4.0f} s left" if done > before else ""
        return f"iteration {iteration}/{total}  {stage:<22} {done:4.0%}  {clock}  {self._spent(iteration)}"

    def _spent(self, iteration: int) -> str:
        """Returns the budget spent when an iteration has begun. Its ledger line is written before it begins."""
        if iteration:
            return f"epsilon spent {self._run.plan.epsilons[iteration - 1]:.3f}"
        return self._spent_first

    @cached_property
    def _spent_first(self) -> str:
        label = self._run.plan.schedule.label_noise_multiplier
        spent = self._run.plan.epsilon_of([] if label is None else [Spending(label)])
        return f"epsilon spent {spent:.3f}" if spent else "nothing spent"


def stage_of(run: Run, iteration: int) -> tuple[str, float]:
    """Returns the current stage of an unfinished iteration, found from its committed files, and the share done."""
    marks = [
        ("selection.parquet", "generating", 0.7),
        ("histogram.parquet", "selecting", 0.65),
        ("matrix.npy", "voting", 0.3),
    ]
    for name, stage, share in marks:
        if run.store.exists(run.layout.work(iteration, name)):
            return stage, share
    return ("embedding candidates", 0.0) if iteration else ("generating", 0.0)


def _refused(manifest: Mapping[str, Any]) -> str:
    """Returns a warning if a generator's answers were rejected as often as there are candidates, or a quarter stand in.

    >>> _refused({"candidates": {"": 4}, "generation": {"rejected_answers": {"duplicate": 9}, "stand_ins": 0}})
    '; warning: answers rejected: duplicate 9; stand-ins: 0 of 4 candidates'
    """
    made, generation = sum(manifest.get("candidates", {}).values()), manifest.get("generation", {})
    rejected, stand_ins = generation.get("rejected_answers", {}), int(generation.get("stand_ins", 0))
    if not rejected or (sum(rejected.values()) < made and 4 * stand_ins < made):
        return ""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(rejected.items()))
    return f"; warning: answers rejected: {kinds}; stand-ins: {stand_ins} of {made} candidates"
