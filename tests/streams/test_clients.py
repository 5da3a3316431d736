"""A client's first windows count, as many as the recipe says, whatever other clients do."""

from __future__ import annotations

import hmac
import shutil

import numpy as np
import pytest

from pe_beam.driver.status import privacy
from pe_beam.engine.run import open_run
from pe_beam.engine.spending import grid_bits, ledger_line
from pe_beam.keyed import encode_fields
from pe_beam.privacy import noise
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.recipe.windows import VERSION, digests_of, parse_clients, registry_key
from pe_beam.releases.reading import open_release
from pe_beam.streams.promise import read_promise
from tests.streams.drifting import Life, counts, put, window

BY_CLIENT = {"privacy__unit": "client", "stream__client_windows": 2, "stream__keep_private": True}


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """Two streams of four days; in one, Ann is there each day, and in the other she never is."""
    found = []
    for name, ann in (("with", True), ("without", False)):
        life = Life(tmp_path_factory.mktemp(name), BY_CLIENT)
        for day in range(4):
            rows = [(5, "ben"), (9, "cy")] if day in (0, 3) else [(5, "dee")]
            put(life.folder, day, "a", [*rows, *([(day, "ann"), (19, "ann")] if ann else [])])
        found.append(life.until(4.5))
    return found


def test_a_client_counts_in_its_first_windows_alone(lives):
    changed = [counts(lives[0], day) != counts(lives[1], day) for day in range(4)]
    assert changed == [True, True, False, False]
    spent = 0.0
    for day in range(4):
        run = open_run(lives[0].at(f"windows/{window(day)}"))
        apart = (np.array(counts(lives[0], day)) - np.array(counts(lives[1], day))) / 2.0 ** grid_bits(run, 1)
        assert (apart**2).sum() <= 1
        spent += (apart**2).sum() / ledger_line(run, 1).noise_multiplier ** 2
    assert 0.99 * read_promise(lives[0])["mu"] ** 2 < spent <= read_promise(lives[0])["mu"] ** 2  # of two windows
    assert sum(counts(lives[1], 3)) > 0


def test_all_that_is_public_follows_from_noisy_counts(tmp_path, monkeypatch):
    """Histograms that do not depend on the data: who was there, and how often, with damaged records, moves no byte."""

    def blind(*, counts, labels, sigma, grid_bits, key):
        return np.random.default_rng(len(counts)).normal(60, sigma, len(counts))

    monkeypatch.setattr(noise, "add_noise", blind)
    found = []
    for name, times in (("with", (40, 3)), ("without", (0, 0))):
        life = Life(tmp_path / name, {**BY_CLIENT, "stream__client_windows": 1})
        for day, often in enumerate(times):
            put(life.folder, day, "a", [(5, "ben"), *[(19, "ann")] * often, *[("none", "ann")] * (often // 3)])
        top = life.until(2.5)
        private = ("private/", "windows/", "recipe.yaml", "stream-ledger.jsonl")
        names = [name for name in top.list_files() if not name.startswith(private)]
        names += [name for name in top.list_files("windows") if "/release/" in name]
        found.append({name: top.digest(name) for name in names})
    assert found[0] == found[1] and len(found[0]) > 10


def test_beside_other_runs_a_window_costs_as_often_as_a_client_may_be_in_those_behind_it(lives):
    """Its release follows from all windows before it, so that a client may have voted in two of them."""
    folders = [life.at(f"windows/{window(3)}") for life in lives]
    spent = [float(z) for each in folders for z in open_release(each).privacy["noise_multiplier"]]
    assert privacy(folders)["epsilon"] == spent_epsilon([*spent, *spent], 1e-5)
    assert privacy(folders[:1])["epsilon"] == spent_epsilon(spent[: len(spent) // 2], 1e-5)  # that of the window alone


def test_a_stream_that_is_made_anew_in_its_place_knows_nothing_of_the_first(tmp_path):
    """In one process, which keeps what it has read of a registry."""
    life = Life(tmp_path, BY_CLIENT)
    for day in range(3):
        put(tmp_path, day, "a", [(5, "ben"), (9, "cy")])
    first = counts(life.until(3.5), 2)
    shutil.rmtree(tmp_path / "stream")
    put(tmp_path, 0, "a", [(5, "dee")])
    assert counts(life.until(3.5), 2) != first  # those of Ben and Cy, who have used up no windows by then


def test_the_registry_holds_each_clients_windows_and_no_name(lives):
    data = lives[0].read(f"private/registry/clients/{window(3)}.parquet")
    digests, windows = parse_clients(data, "clients")
    key = registry_key(lives[0].uri)
    of = {name: windows[digests == digests_of(key, "client", [name])].tolist() for name in ("ann", "ben", "cy", "dee")}
    assert of == {"ann": [[0, 1]], "ben": [[0, 3]], "cy": [[0, 3]], "dee": [[1, 2]]}
    assert b"ann" not in data


def test_the_registry_holds_hmacs_under_its_key():
    key, names = bytes(range(32)), ["ann", "bén", ""]
    head = encode_fields("pe_beam/registry", VERSION, "client")
    found = [hmac.digest(key, head + name.encode(), "sha256")[:16] for name in names]
    assert digests_of(key, "client", names).tobytes() == b"".join(found)
    assert digests_of(key, "position", names).tobytes() != b"".join(found)
