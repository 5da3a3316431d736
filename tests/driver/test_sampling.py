"""Runs in which a share of the units votes: who does follows from the secret, and nothing released tells."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.driver.status import privacy, status
from pe_beam.engine.graphs.iteration import _ReadShardFn
from pe_beam.engine.matrices import load_voter
from pe_beam.engine.run import open_run
from pe_beam.engine.shards import listed
from pe_beam.engine.spending import coins_of
from pe_beam.errors import RecipeError
from pe_beam.privacy.coins import Coins
from pe_beam.privacy.statement import compose_runs
from pe_beam.privacy.subsampled import Spending
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.voting.votes import read_batch
from tests.whole_runs import SECRET, SMALL, Runs, release_digests, stop_half_way

RATE = 0.5
SAMPLED: dict[str, Any] = {**SMALL, "privacy": {**SMALL["privacy"], "sampling_rate": RATE}}


def test_counts_are_those_of_the_units_with_heads(runs: Runs) -> None:
    folder = runs.finished(SAMPLED)
    run = open_run(str(folder))
    secret = Path(folder / "private/secret.key")
    secret.write_bytes(SECRET)  # the run has deleted it
    try:
        coins = coins_of(run, 2)
    finally:
        secret.unlink()
    votes, records = 0, 0
    voter = load_voter(run, 2)
    wanted = np.zeros(voter.width, dtype=np.int64)
    for shard in sorted((folder / "private/embeddings").glob("*.parquet")):
        table = listed(pq.read_table(shard))
        heads = coins.of_rows(f"private/embeddings/{shard.name}", 0, len(table))
        vectors, labels, _ = read_batch(table.filter(pa.array(heads)))
        wanted += voter.count(vectors, labels)
        votes, records = votes + int(heads.sum()), records + len(table)
    found = pq.read_table(folder / "private/counts/iteration=0002.parquet")["count"].to_numpy()
    np.testing.assert_array_equal(found, wanted)
    assert 0 < votes < records


def test_the_release_says_the_rate_and_the_epsilon_that_it_gives(runs: Runs) -> None:
    folder = runs.finished(SAMPLED)
    said = json.loads((folder / "release/privacy.json").read_text())
    whole = make_plan(parse_recipe(SMALL))
    assert said["sampling_rate"] == RATE
    assert 0.99 < said["spent_epsilon"] <= 1
    assert said["noise_multiplier"][0] < whole.schedule.noise_multipliers[0]
    assert "each record votes with probability 0.5" in said["statement"]
    assert "Poisson" in said["accountant"]
    assert status(str(folder))["epsilon_spent"] == said["spent_epsilon"] == privacy([str(folder)])["epsilon"]


def test_a_resumed_run_draws_the_same_coins(runs: Runs, tmp_path: Path) -> None:
    stop_half_way(SAMPLED, tmp_path / "run", runs.secret_file)
    evolve(parse_recipe(SAMPLED), tmp_path / "run")
    assert release_digests(tmp_path / "run") == release_digests(runs.finished(SAMPLED))


def test_a_rate_of_one_is_the_run_that_it_was(runs: Runs) -> None:
    recipe = parse_recipe({**SMALL, "privacy": {**SMALL["privacy"], "sampling_rate": 1.0}})
    run = open_run(str(runs.finished(SMALL)))
    from pe_beam.recipe.identity import run_id

    assert run_id(recipe) == run.run_id
    assert json.loads((runs.finished(SMALL) / "release/privacy.json").read_text())["sampling_rate"] == 1


def reader(unit: str, coins: Coins) -> _ReadShardFn:
    made = _ReadShardFn("nowhere", 1)
    promise = SimpleNamespace(sampling_rate=RATE, unit=unit)
    made._run = SimpleNamespace(recipe=SimpleNamespace(privacy=promise, vote_unit=unit))  # type: ignore[assignment]
    made._coins = coins
    return made


def batch(seed: int, clients: list[str] | None = None) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=4000).astype(np.float32)), 4)
    columns = {"label": pa.array(np.arange(1000), pa.int32()), "vector": vector}
    return pa.RecordBatch.from_pydict(columns | ({} if clients is None else {"client": clients}))


def test_who_votes_does_not_depend_on_what_a_record_holds() -> None:
    coins = Coins(SECRET, run_id="a", fingerprint="b", iteration=1, rate=RATE)
    first, other = (reader("record", coins)._sampled(batch(seed), "shard", 70)["label"] for seed in (0, 1))
    assert first.equals(other)
    assert 400 < len(first) < 600


def test_a_client_votes_with_all_of_its_records_or_with_none() -> None:
    coins = Coins(SECRET, run_id="a", fingerprint="b", iteration=1, rate=RATE)
    clients = [f"c{row % 50}" for row in range(1000)]
    kept = reader("client", coins)._sampled(batch(0, clients), "shard", 0)["client"].to_pylist()
    assert {kept.count(client) for client in set(kept)} == {20}
    assert 5 < len(set(kept)) < 45


def test_the_plan_shows_the_trade() -> None:
    whole, sampled = make_plan(parse_recipe(SMALL)), make_plan(parse_recipe(SAMPLED))
    assert whole.votes_per_candidate is not None
    assert sampled.votes_per_candidate == [RATE * votes for votes in whole.votes_per_candidate]
    assert sampled.to_json()["sampling"]["unsampled"]["sigma"] == list(whole.schedule.sigmas)
    assert "sampling" not in whole.to_json()


def test_replaced_records_are_not_covered() -> None:
    with pytest.raises(RecipeError, match=r"privacy.*sampling_rate: below 1 only with adjacency add-or-remove-one"):
        parse_recipe({**SAMPLED, "privacy": {**SAMPLED["privacy"], "adjacency": "replace-one"}})


def test_several_runs_add_up_as_if_all_had_voted() -> None:
    one = ("record", "add-or-remove-one", 1e-5, [Spending(3.0, 0.2)] * 4)
    alone, _ = compose_runs([one])
    twice, _ = compose_runs([one, one])
    unsampled, _ = compose_runs([("record", "add-or-remove-one", 1e-5, [3.0] * 8)])
    assert alone < unsampled / 2
    assert twice == unsampled
