"""What is read at a look, and of what kinds of runs and streams: without a server, and without a browser."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlencode

import pytest

from pe_beam.driver.loop import evolve
from pe_beam.errors import InputError
from pe_beam.modalities.tabular import MODALITY as TABULAR
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.windows import manifest_name
from pe_beam.storage import open_store
from pe_beam.storage.memory import MemoryStore
from pe_beam.streams.layout import published_name
from pe_beam.streams.promise import pin_promise
from pe_beam.watch import following
from pe_beam.watch.drawing import NO_CANDIDATE
from pe_beam.watch.server import Site
from pe_beam.watch.shelf import Shelf
from pe_beam.watch.windows import Watched
from tests.streams.drifting import stream_recipe, window
from tests.watch.conftest import made_up
from tests.whole_runs import SMALL


@pytest.fixture(autouse=True)
def _every_look_is_new(monkeypatch):
    monkeypatch.setattr(following, "_NEAR", 0.0)


def asked(site, path, **query):
    """The body of what a site answers."""
    return site.answer(f"/{site.token}/{path}?{urlencode(query)}").body.decode()


def test_a_look_reads_what_is_new_and_nothing_else(monkeypatch):
    site = Site(Watched("memory://watched"))
    assert site.state()["kind"] == "waiting"
    evolve(parse_recipe(SMALL | {"evolution": {"iterations": 1, "samples": 20}}), "memory://watched")
    assert site.state()["public"]["populations"] == 2
    read = Counter()
    for name in ("read", "read_range", "open"):
        real = getattr(MemoryStore, name)

        def noting(self, asked_for, *more, real=real):
            read[asked_for] += 1
            return real(self, asked_for, *more)

        monkeypatch.setattr(MemoryStore, name, noting)
    for _ in range(20):
        site.state()
    assert not [name for name in read if "population" in name or "histogram" in name or name.startswith("private/")]
    read.clear()
    for _ in range(5):
        asked(site, "gallery", population=1, start=0)
    parts = [name for name in read if "/population/" in name]
    assert len(parts) == 1
    first = read[parts[0]]
    asked(site, "gallery", population=1, start=0)
    assert read[parts[0]] == first  # it was drawn once


def test_another_run_in_the_same_directory_is_seen(tmp_path):
    table = {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}}
    site = Site(Watched(str(tmp_path / "run")))
    epochs = []
    for seed in (1, 2):
        made_up(tmp_path / "run", tabular(table) | {"seed": seed}, *rows(table, {"age": [seed]}))
        state = site.state()
        epochs.append(state["epoch"])
        assert state["public"]["populations"] == 3
        assert f"<td>{seed}</td>" in asked(site, "gallery", population=2, start=0)
        (tmp_path / "run").rename(tmp_path / f"old{seed}")
        assert site.state()["kind"] == "waiting"
    assert len(set(epochs)) == 2


def test_a_fault_is_told_beside_what_was_found_before(tmp_path):
    table = {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}}
    site = Site(Watched(str(tmp_path / "run")))
    made_up(tmp_path / "run", tabular(table), *rows(table, {"age": [1]}))
    assert site.state()["trouble"] is None
    ledger = tmp_path / "run/ledger.jsonl"
    ledger.write_text("damaged\n")
    state = site.state()
    assert "ledger.jsonl" in state["trouble"]
    assert "damaged" not in state["trouble"].replace("is damaged", "")
    assert state["public"]["populations"] == 3
    assert site.state() == state
    ledger.unlink()
    assert site.state()["trouble"] is None
    (tmp_path / "run/recipe.yaml").write_text("name: [")
    assert Site(Watched(str(tmp_path / "run"))).state()["kind"] == "trouble"


def tabular(schema):
    return {
        **SMALL,
        "data": {"source": "jsonl", "path": "x.jsonl", "schema": schema},
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
    }


def rows(schema, columns):
    """The modality of a schema, and rows that repeat these values."""
    modality = TABULAR.with_schema(TABULAR.schema_model.model_validate(schema))

    def payload(count, _):
        return {name: [values[i % len(values)] for i in range(count)] for name, values in columns.items()}

    return modality, payload


def test_rows_of_tables_are_shown_with_their_changes(tmp_path):
    kinds = {"type": "categorical", "values": ["<b>", "y"]}
    schema = {"columns": {"n": {"type": "integer", "min": 0, "max": 9}, "c": kinds}}
    made_up(tmp_path / "run", tabular(schema), *rows(schema, {"n": [1, 2, 3], "c": ["<b>", "y"]}))
    site = Site(Watched(str(tmp_path / "run")))
    shown = asked(site, "gallery", population=2, start=0)
    assert '<th scope="col">n</th>' in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert 'href="#c2-80"' in shown
    families = [asked(site, "family", population=2, candidate=candidate) for candidate in range(80, 86)]
    assert all('class="tb"' in family and "varied from" in family for family in families)
    assert any("<mark>" in family for family in families)
    with pytest.raises(InputError, match=NO_CANDIDATE):
        asked(site, "family", population=2, candidate=3)


def test_of_a_stream_the_newest_window_is_shown_and_is_public_once_it_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr("pe_beam.watch.windows._SELDOM", 0)
    site, store = Site(Watched(str(tmp_path / "stream"))), open_store(tmp_path / "stream")
    assert site.state()["kind"] == "waiting"
    recipe = stream_recipe(tmp_path)
    store.commit("recipe.yaml", to_yaml(recipe).encode())
    pin_promise(recipe, store)
    assert site.state()["run"] == {"kind": "waiting"}
    table = {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}}
    for day in range(2):
        store.commit(manifest_name(window(day)), b"{}")
        made_up(tmp_path / "stream/windows" / window(day), tabular(table) | {"seed": day}, *rows(table, {"age": [day]}))
    store.commit(published_name(window(0)), b'{"missed": false}')
    state = site.state()
    assert state["kind"] == "stream"
    assert [(each["name"], each["published"]) for each in state["windows"]] == [(window(0), True), (window(1), False)]
    assert (state["shown"], state["published"]) == (window(1), False)
    assert state["holder"]["windows_published"] == 1
    first = site.state(window(0))
    assert first["published"]
    assert first["run"]["epoch"] != state["run"]["epoch"]
    assert "<td>0</td>" in asked(site, "gallery", population=1, start=0, window=window(0))
    assert "<td>1</td>" in asked(site, "gallery", population=1, start=0)
    for name in ("..", "../..", window(7), f"{window(0)}/../{window(0)}", "private"):
        assert site.state(name)["run"] == {"kind": "waiting"}
        with pytest.raises(InputError, match="no such window"):
            asked(site, "gallery", population=1, start=0, window=name)


def test_a_shelf_keeps_what_was_asked_for_last_and_no_more_than_it_may():
    shelf, made = Shelf[bytes](100, len), []

    def make(key, size):
        made.append(key)
        return b"x" * size

    for key, size in (("a", 40), ("b", 40), ("a", 40), ("c", 40), ("a", 40), ("b", 40), ("huge", 500)):
        assert len(shelf.get(key, lambda key=key, size=size: make(key, size))) == size
        assert shelf.total <= 100
    assert made == ["a", "b", "c", "b", "huge"]
