"""Says where a run stands: what is public of it, and what is for its holder alone (DESIGN, privacy rule 7).

Public is what the release says, or follows from the public part of the recipe. When a file of it appeared is not
public: how long private stages take follows from it. Stages, times, the ledger, calls and money are the holder's.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_beam.contracts.store import Store
from pe_beam.driver.finalize import is_complete, promised_epsilon
from pe_beam.driver.progress import stage_of
from pe_beam.driver.status import status
from pe_beam.engine.manifests import manifest_of, read_manifest
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError, PeBeamError
from pe_beam.numbers import json_number
from pe_beam.privacy.statement import rounded_up
from pe_beam.recipe.ancestry import with_ancestors
from pe_beam.storage import open_store
from pe_beam.watch.populations import Columns, Populations
from pe_beam.watch.shelf import Shelf

_NEAR, _REMOTE = 0.5, 5.0  # seconds for which what was found is shown, on a disk and on a store whose requests cost
_AT_ONCE = 4  # histograms that are read in one look, so that no look takes long
_TIMES = 30  # the newest durations that are shown
_AVERAGED = 3  # iterations by which the time left is told


@dataclass(frozen=True)
class Votes:
    """What is shown of a noisy histogram.

    Attributes:
      highest: most noisy votes of one candidate.
      passed: share of the candidates above the threshold of their label, 0 to 1; None if selection is by rank.
      fallback: the labels in which nothing passed, in the words of the manifest.
    """

    highest: float
    passed: float | None
    fallback: list[str]


class Follower:
    """A run directory that is looked at again and again. What is released is read once, and the least of it is kept.

    Args:
      uri: of the run directory, which need not be there yet.
      shelf: keeps columns of populations.
    """

    def __init__(self, uri: str, shelf: Shelf[Columns]) -> None:
        self.uri = uri
        self.store: Store = open_store(uri)
        self._mutex = threading.RLock()
        self._shelf = shelf
        self._begun, self._digest = 0, ""
        self._sizes, self._votes = list[int](), dict[int, Votes]()
        self._told: dict[str, Any] | None = None
        self._final: dict[str, Any] | None = None
        self._latest: tuple[float, dict[str, Any]] | None = None
        self._arrivals: list[float] = []  # instants at which populations were seen to appear

    @property
    def patience(self) -> float:
        """Seconds between two looks."""
        return _REMOTE if self.store.remote else _NEAR

    def state(self) -> dict[str, Any]:
        """Returns where the run stands, as JSON data. A fault is told in it: the next look may find what is missing."""
        with self._mutex:
            if self._latest is None or time.monotonic() - self._latest[0] >= self.patience:
                found = telling(self._state, None if self._latest is None else self._latest[1])
                self._latest = time.monotonic(), found
            return self._latest[1]

    def populations(self) -> Populations:
        """Returns the populations that are released by now. Raises InputError if there is no run yet."""
        with self._mutex:
            self.state()
            run = open_run(self.uri)
            return Populations(run, len(self._sizes), self._epoch, self._shelf)

    def _state(self) -> dict[str, Any]:
        if not self.store.exists("recipe.yaml"):
            self._begin_anew()
            return {"kind": "waiting", "trouble": None, "dir": self.uri}
        run = open_run(self.uri)
        self._count_populations(run)
        return {
            "kind": "run",
            "trouble": None,
            "epoch": self._epoch,
            "private": run.recipe.private,
            "complete": is_complete(run),
            "public": self._public(run),
            "holder": self._holder(run),
        }

    # --- what exists -----------------------------------------------------------------------------------------

    def _begin_anew(self, digest: str = "") -> None:
        """Forgets what was there: another run is, or this one again in an empty directory."""
        self._begun, self._digest = self._begun + 1, digest
        self._sizes, self._votes, self._arrivals = [], {}, []
        self._told = self._final = None

    @property
    def _epoch(self) -> str:
        """Tells apart what lay here at different times."""
        return f"{self._digest}-{self._begun}"

    def _count_populations(self, run: Run) -> None:
        """Counts the populations that exist. It asks for the first, the last known and those after it."""
        first = run.store.find_committed(run.layout.public(0, "manifest.json"))
        digest = hashlib.sha256(run.run_id.encode() + (first or b"")).hexdigest()[:12]
        if digest != self._digest or (self._sizes and read_manifest(run, len(self._sizes) - 1) is None):
            self._begin_anew(digest)
        known = len(self._sizes)
        while len(self._sizes) <= run.recipe.evolution.iterations:
            manifest = read_manifest(run, len(self._sizes))
            if manifest is None:
                break
            self._sizes.append(sum(manifest["candidates"].values()))
        if len(self._sizes) == known + 1:
            self._arrivals = [*self._arrivals[-_AVERAGED:], time.monotonic()]
        elif len(self._sizes) > known:
            self._arrivals = []  # when each of several came is not known

    def _read_votes(self, run: Run) -> None:
        """Reads histograms that were not read yet, the newest first."""
        populations = Populations(run, len(self._sizes), self._epoch, self._shelf)
        missing = [t for t in range(len(self._sizes) - 1, 0, -1) if t not in self._votes]
        for t in missing[:_AT_ONCE]:
            noisy, selection = populations.votes(t), manifest_of(run, t)["selection"]
            heights = [height for height in selection["threshold"].values() if height is not None]
            # One figure for all labels, as the report has it: above the largest threshold.
            passed = float(np.mean(noisy > max(heights))) if heights else None
            fallen = [f"{label or 'all'}: {how}" for label, how in sorted(selection["fallback"].items())]
            self._votes[t] = Votes(float(noisy.max(initial=0.0)), passed, fallen)

    # --- what is public --------------------------------------------------------------------------------------

    def _public(self, run: Run) -> dict[str, Any]:
        """Returns what is public. It is put together anew only when there is more of it."""
        before = len(self._votes)
        self._read_votes(run)
        if self._told is None or self._told["populations"] != len(self._sizes) or len(self._votes) != before:
            self._told = self._all_public(run)
        return self._told

    def _all_public(self, run: Run) -> dict[str, Any]:
        privacy = run.recipe.privacy
        return {
            "name": run.recipe.name,
            "iterations": run.recipe.evolution.iterations,
            "populations": len(self._sizes),
            "epsilon": _shown(promised_epsilon(run)),
            "epsilon_released": _shown(self._released(run)),
            "delta": f"{with_ancestors(run.recipe, [])[1]:g}",
            "unit": privacy.unit,
            "adjacency": privacy.adjacency,
            "labels": len(run.recipe.label_list),
            "rows": [self._row(run, t) for t in range(run.recipe.evolution.iterations + 1)],
        }

    def _released(self, run: Run) -> float:
        """Returns the epsilon of what is released: of the histograms that exist, and of the initial measurement."""
        if not self._sizes:
            return 0.0
        if not run.recipe.private:
            return math.inf
        schedule = run.plan.schedule
        before = len(schedule.spendings) - len(schedule.sigmas)  # the initial measurement comes first
        return run.plan.epsilon_of(schedule.spendings[: before + len(self._sizes) - 1])

    def _row(self, run: Run, t: int) -> dict[str, Any]:
        """Returns one iteration: what is planned, and what is released of it."""
        votes = self._votes.get(t)
        return {
            "candidates": self._sizes[t] if t < len(self._sizes) else run.plan.candidates[t],
            "epsilon": _shown(run.plan.epsilons[t - 1]) if t else None,
            "sigma": run.plan.schedule.sigmas[t - 1] if t else None,
            "highest": None if votes is None else votes.highest,
            "passed": None if votes is None else votes.passed,
            "fallback": [] if votes is None else votes.fallback,
        }

    # --- what is the holder's --------------------------------------------------------------------------------

    def _durations(self, times: Sequence[dict[str, Any]]) -> list[float]:
        """Returns the seconds of iterations with a vote: as the driver timed them, else as they were seen to appear.

        Of an unrolled run the driver times no single iteration.
        """
        timed = [entry["seconds"] for entry in times if _number_of(entry["what"]) > 0]
        return timed or [after - before for before, after in itertools.pairwise(self._arrivals)]

    def _holder(self, run: Run) -> dict[str, Any]:
        complete = is_complete(run)
        if complete and self._final is not None:
            return self._final
        count, total = len(self._sizes), run.recipe.evolution.iterations
        found = status(self.uri, done=range(count))
        running = found["state"] == "running"
        voting = running and "embedding the private" not in found["stage"]
        share = stage_of(run, count)[1] if voting and count <= total else 0.0
        holder = {
            "dir": self.uri,
            "state": found["state"],
            "running": running,
            "stage": found.get("stage"),
            "job": found.get("job"),
            "runner": found.get("runner"),
            "share": round((count + share) / (total + 1), 4),
            "epsilon_spent": _shown(found["epsilon_spent"]),
            "left": seconds_left(self._durations(found["times"]), total + 1 - count - share) if running else None,
            "seconds": found["seconds"],
            "times": found["times"][-_TIMES:],
            "calls": found["generator_calls"],
            "calls_planned": found["generator_calls_planned"],
            "services": found["services"],
            "left_out": found["left_out"],
            "notes": [found[key] for key in ("private_kept", "search") if key in found],
            "report": run.store.at(f"{run.layout.release}/report.html") if complete else None,
        }
        self._final = holder if complete else None  # nothing of it changes any more
        return holder


def telling(look: Callable[[], dict[str, Any]], before: dict[str, Any] | None) -> dict[str, Any]:
    """Returns what a look finds. A fault is told as `trouble`, beside what was found before, if that was anything.

    Only messages of ours are told: others may hold a value.
    """
    try:
        return look()
    except PeBeamError as error:
        said = str(error)
    except Exception as error:
        said = f"internal error ({type(error).__name__}); please report it"
    return (before or {"kind": "trouble"}) | {"trouble": said}


def seconds_left(durations: Sequence[float], iterations: float) -> float | None:
    """Returns the seconds that some iterations may take, by the last three; None if none was timed yet.

    >>> seconds_left([60.0, 10.0, 20.0, 30.0], 4.5), seconds_left([], 3)
    (90.0, None)
    """
    latest = durations[-_AVERAGED:]
    return round(max(iterations, 0.0) * sum(latest) / len(latest), 1) if latest else None


def _number_of(what: str) -> int:
    """Returns the number of a timed iteration; 0 for another part of a run, such as the ingest."""
    kind, _, number = what.partition(" ")
    return int(number) if kind == "iteration" and number.isdecimal() else 0


def _shown(epsilon: float | str) -> str:
    """Returns an epsilon for people, never too small."""
    value = json_number(float(epsilon))
    return "∞" if value == "inf" else rounded_up(float(epsilon), 4) if epsilon else "0"


def refuse_release(store: Store) -> None:
    """Raises InputError for a folder that is a release, without the run directory around it."""
    if not store.exists("recipe.yaml") and (
        store.exists("privacy.json") or store.exists("iteration=0000/manifest.json")
    ):
        raise InputError(f"{store.uri}: a release; its run directory is wanted (its report.html shows the release)")
