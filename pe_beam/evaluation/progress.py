"""Progress of `evaluate`: its steps, and the share of the records that are read. It never shows a count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pe_beam.driver.progress import Progress
from pe_beam.engine.run import Run
from pe_beam.evaluation.setting import WORK

READING = "reading and embedding"
_PORTIONS, _STEP = f"{WORK}/portions", f"{WORK}/step"


def note_portions(run: Run, count: int) -> None:
    """Commits the number of portions to read, for the share that is done. It is private."""
    run.store.commit(_PORTIONS, str(count).encode(), replace=True)


def note_step(run: Run, step: str) -> None:
    """Commits the current step: a fixed phrase, or a phrase with declared facts only."""
    run.store.commit(_STEP, step.encode(), replace=True)


class EvaluationProgress(Progress):
    """One line that updates itself on a terminal. In a pipe, a plain line for each step, without share or time."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Shows the steps of the evaluation that the body runs."""
        told = READING
        self.say(told)

        def line() -> str:
            nonlocal told
            step = self._step()
            if step != told:
                told = step
                self.say(told)
            return f"{told}  {self._share():4.0%}" if told == READING else told

        with self._living(line, tells=True):
            yield

    def _step(self) -> str:
        store = self._run.store
        with contextlib.suppress(Exception):  # the file is deleted with its folder when the evaluation ends
            if store.exists(_STEP):
                return store.read(_STEP).decode()
        return READING

    def _share(self) -> float:
        store = self._run.store
        with contextlib.suppress(Exception):
            if store.exists(_PORTIONS):
                done = sum(name.endswith(".done") for name in store.list_files(WORK))
                return min(1.0, done / max(int(store.read(_PORTIONS)), 1))
        return 0.0
