"""`execution.search_engine: auto` in a run: the release is that of a named engine, and status says what was taken."""

from __future__ import annotations

from pe_beam.driver.loop import evolve
from pe_beam.driver.status import status
from pe_beam.recipe.loading import load_recipe
from pe_beam.voting.search import auto

_SIZES = ["evolution.iterations=1", "evolution.samples=20", "evolution.population=20"]


def test_a_run_is_the_same_with_any_engine_and_status_says_which(monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "_SMALL", 0)
    monkeypatch.setattr(auto, "_taken", {})
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    released = []
    for name in ("auto", "faiss"):
        more = [f"execution.search_engine={name}", "execution.search_memory=1MB"]
        where = str(tmp_path / name)
        run = evolve(load_recipe("digits", _SIZES + more), where, secret_file=tmp_path / "secret")
        names = run.store.list_files("release/iteration=0001")
        released.append({file: run.store.read(file) for file in names})
        taken = status(where).get("search_engines")
        assert taken in ("blas", "faiss", "int8", "prefix", "torch") if name == "auto" else taken is None
    assert released[0] == released[1]
