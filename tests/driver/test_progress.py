"""The line that shows how far a run is: when it asks the store, and what it makes of a store that does not answer."""

from __future__ import annotations

import io
import threading

import pytest

from pe_beam.driver import progress
from pe_beam.driver.progress import Progress
from pe_beam.engine.run import Run
from pe_beam.errors import StorageError
from pe_beam.recipe.loading import parse_recipe
from tests.whole_runs import SMALL


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run() -> Run:
    return Run("memory://progress", parse_recipe(SMALL))


def test_a_line_goes_on_after_a_store_that_does_not_answer(run, monkeypatch):
    asked, enough = iter([StorageError("does not answer"), 0.5]), threading.Event()

    def share(_: Run) -> float:
        told = next(asked, None)
        if told is None:
            enough.set()
        elif isinstance(told, Exception):
            raise told
        return 0.5

    monkeypatch.setattr(progress, "share_done", share)
    shown = _Terminal()
    with Progress(run, shown).ingest():
        assert enough.wait(20)
    assert "records   50%" in shown.getvalue()


def test_where_no_line_is_shown_the_store_is_not_asked(run, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(progress, "share_done", lambda _: asked.set() or 0.0)
    shown = io.StringIO()
    with Progress(run, shown).ingest():
        assert not asked.wait(0.5)
    assert shown.getvalue() == "embedding the private records\n"
