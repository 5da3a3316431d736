"""Earlier windows' noisy votes count, the older the less, and cost nothing."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.store import Store
from pe_beam.engine.choose import choose
from pe_beam.engine.memory import remembered
from pe_beam.engine.populations import population_rows
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError
from pe_beam.selection.smoothing import Round, smoothed_votes
from pe_beam.storage.parquet import parse_parquet
from pe_beam.streams.ledger import read_lines
from tests.streams.drifting import Life, put, window

MEMORY = {
    "stream__memory": {"windows": 2, "half_life": 1},
    "evolution__smoothing": 0.1,
    "evolution__iterations": 2,
    "stream__fresh": 0.5,
}


def test_votes_of_older_rounds_weigh_less():
    here, votes = np.zeros((1, 2)), np.array([8.0])
    rounds = [Round(here, votes, 2.0, 0.25), Round(here, votes, 2.0, 0.5), Round(here, votes, 2.0)]
    pooled, deviation = smoothed_votes(rounds, 1.0)
    assert pooled[0] == pytest.approx(8 * 1.75)
    assert deviation[0] == pytest.approx(2 * np.sqrt(1 + 0.25 + 0.0625))


def test_a_window_remembers_those_before_it_as_they_were_released(tmp_path):
    life = Life(tmp_path, MEMORY)
    for day in range(4):
        put(life.folder, day, "a", [day * 5] * 30)
    store = life.until(4.5)
    assert store.list_files("memory") == [f"memory/{window(day)}.parquet" for day in (2, 3)]
    third = open_run(store.at(f"windows/{window(3)}"))
    with pytest.raises(InputError, match="memory"):
        remembered(third)  # of the second nothing is left
    assert len({line["sigma"] for line in read_lines(store)}) == 1


@pytest.mark.parametrize("data", [None, b"torn"])
def test_a_window_is_not_paid_for_without_what_it_remembers(tmp_path, data):
    """The message named no file, and came when the window's budget was spent."""
    life = Life(tmp_path, MEMORY)
    store = life.until(1.5)
    name = f"memory/{window(0)}.parquet"
    if data is None:
        store.delete(name)
    else:
        store.commit(name, data, replace=True)
    before = read_lines(store)
    with pytest.raises(InputError, match=f"{name}: (the file of an earlier window is missing|damaged)"):
        life.until(2.5)
    assert read_lines(store) == before


def test_what_is_remembered_has_the_weights_of_its_age(tmp_path):
    life = Life(tmp_path, {**MEMORY, "stream__keep_private": True})
    for day in range(3):
        put(life.folder, day, "a", [day * 5] * 30)
    store = life.until(3.1)  # the third window is run and not published: nothing of the first is deleted
    [rounds] = remembered(open_run(store.at(f"windows/{window(2)}")))
    assert [each.weight for each in rounds] == [0.25, 0.25, 0.5, 0.5]
    assert {each.vectors.shape for each in rounds} == {(20, rounds[0].vectors.shape[1])}


def test_a_window_selects_by_what_it_remembers(tmp_path):
    life = Life(tmp_path, {**MEMORY, "stream__keep_private": True, "evolution__iterations": 1})
    for day in range(2):
        put(life.folder, day, "a", [10] * 30)
    store = life.until(2.1)
    run = open_run(store.at(f"windows/{window(1)}"))
    before = _parents(run)
    _heap(store, f"memory/{window(0)}.parquet")
    assert max(_parents(run)) < min(before)


def _parents(run: Run) -> list[int]:
    """The values of x that are selected in iteration 1."""
    selected, _ = choose(run, 1)
    found: list[int] = population_rows(run, 0, selected["parent_row"].to_numpy())["x"].to_pylist()
    return found


def _heap(store: Store, name: str) -> None:
    """Makes a window remembered as one in which very many votes were for the least x."""
    table = parse_parquet(store.read(name))
    rows, dimension = table.num_rows, table["vector"].type.list_size
    least = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * dimension, np.float32)), dimension)
    sink = io.BytesIO()
    pq.write_table(table.set_column(2, "vector", least).set_column(3, "noisy_votes", pa.array([1e6] * rows)), sink)
    store.commit(name, sink.getvalue(), replace=True)
