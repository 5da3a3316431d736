"""Whole runs on real digits: bytes that repeat, kills, bad days, and what must not be in a release."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.driver.resume import pin_recipe
from pe_beam.engine import counting, matrices, steps
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import open_run, stored_recipe
from pe_beam.engine.shards import listed
from pe_beam.errors import InputError, LockedError
from pe_beam.privacy import accounting
from pe_beam.privacy.statement import rounded_up
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import open_store
from pe_beam.voting.nearest import reference_nearest
from tests.whole_runs import SMALL, copied, release_digests

pytestmark = pytest.mark.reported


@pytest.fixture(scope="module")
def done(runs, tmp_path_factory):
    """One finished run whose secret was given, and its recipe."""
    return copied(runs.finished(SMALL), tmp_path_factory.mktemp("done") / "run"), parse_recipe(SMALL)


@pytest.mark.parametrize(
    ("flags", "unroll"),
    [
        (["--direct_num_workers=2", "--direct_running_mode=multi_threading"], False),
        (["--direct_num_workers=2", "--direct_running_mode=multi_processing"], True),
        (["--direct_runner_bundle_repeat=1"], False),
    ],
)
@pytest.mark.usefixtures("forked")
def test_release_is_the_same_bytes_however_it_runs(done, tmp_path, secret_file, flags, unroll):
    evolve(done[1], tmp_path / "run", flags, secret_file=secret_file, unroll=unroll)
    assert release_digests(tmp_path / "run") == release_digests(done[0])


def test_counts_equal_the_definition_and_noise_its_scale(done):
    run = open_run(done[0])
    shard = listed(pq.read_table(done[0] / read_index(run)["shards"][0]["shard"]))
    vectors = np.array(shard["vector"].to_pylist(), dtype=np.float32)
    codes = shard["label"].to_numpy()
    matrix = matrices.load_matrix(run, 1)
    wanted = np.zeros(len(matrix.ids), dtype=np.int64)
    for code in range(10):
        own = np.flatnonzero(matrix.labels == code)
        nearest = reference_nearest(vectors[codes == code], matrix.vectors[own], distance="l2", votes=1)
        wanted += np.bincount(own[nearest[:, 0]], minlength=len(wanted))
    counts = pq.read_table(done[0] / counting.counts_name(1))["count"].to_numpy()
    assert (counts == wanted).all()
    noisy = pq.read_table(done[0] / "release/iteration=0001/histogram")["noisy_votes"].to_numpy()
    sigma = run.plan.schedule.sigmas[0]
    assert 0.6 * sigma < np.std(noisy - counts) < 1.4 * sigma  # 40 draws: false alarm below 1e-3 for a new key


def test_privacy_json_is_what_the_ledger_spends(done):
    record = json.loads((done[0] / "release/privacy.json").read_text())
    lines = [json.loads(line) for line in (done[0] / "ledger.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    assert record["noise_multiplier"] == [line["noise_multiplier"] for line in lines]
    numeric = accounting.numeric_epsilon(record["noise_multiplier"], record["delta"])
    assert numeric == pytest.approx(1.0, abs=1e-3)
    assert record["spent_epsilon"] <= 1
    assert record["supplied_secret"] is True
    assert not (done[0] / "private/secret.key").exists()


def test_nothing_private_is_in_the_release(done):
    run = open_run(done[0])
    index = read_index(run)
    needles = [bytes(range(32)), bytes(range(32)).hex().encode(), index["fingerprint"].encode(), b"1257"]
    needles += [shard["sha256"].encode() for shard in index["shards"]]
    needles += [str(done[0]).encode()]
    for path in (done[0] / "release").rglob("*"):
        if path.is_file() and path.suffix in (".json", ".parquet", ".html"):
            data = path.read_bytes()
            if path.suffix == ".html":  # ids, coordinates: tests/report builds it from a release alone
                data = data.replace(b"1257", b"")
            assert not [needle for needle in needles if needle in data], path
    for t in (1, 2):
        table = pq.read_table(done[0] / f"release/iteration={t:04d}/histogram")
        assert table.column_names == ["candidate_id", "label", "noisy_votes"]


def test_population_keeps_the_contract(done):
    seen: set[int] = set()
    for t in range(3):
        table = pq.read_table(done[0] / f"release/iteration={t:04d}/population/part-00000.parquet")
        ids = table["candidate_id"].to_pylist()
        assert ids == sorted(ids)
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(table["origin"].to_pylist()) == {"random" if t == 0 else "varied"}
        manifest = json.loads((done[0] / f"release/iteration={t:04d}/manifest.json").read_text())
        assert sum(manifest["candidates"].values()) == 40
    assert pq.read_table(done[0] / "release/samples.parquet").num_rows == 40


def test_a_finished_run_needs_no_secret_and_a_changed_recipe_is_refused(done, small, capsys, tmp_path):
    before = release_digests(done[0])
    evolve(done[1], done[0])
    assert release_digests(done[0]) == before
    small["seed"] = 5
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    assert main(["run", str(path), "--run-dir", str(done[0])]) == 2
    told = capsys.readouterr().err
    assert "differs in seed" in told and "no budget is spent" not in told


def test_a_recipe_may_be_mended_until_its_run_has_drawn_a_secret(small, tmp_path, capsys):
    run, path = tmp_path / "run", tmp_path / "r.yaml"
    small["embedder"] = {"name": "inception", "weights": "/nowhere/inception.pt"}
    path.write_text(yaml.safe_dump(small))
    assert main(["run", str(path), "--run-dir", str(run)]) == 2
    assert "embedder.weights" in capsys.readouterr().err
    mended = parse_recipe(SMALL)
    store = open_store(run)
    pin_recipe(mended, store)
    assert stored_recipe(store) == mended

    store.commit("recipe.yaml", b"# mine\n" + store.read("recipe.yaml"), replace=True)  # a user's own file
    other = mended.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="differs in seed"):
        pin_recipe(other, store)
    store.commit("recipe.yaml", to_yaml(mended).encode(), replace=True)
    store.commit("private/secret.key", b"x" * 32)
    with pytest.raises(
        InputError, match=r"differs in seed.*; no budget is spent in this one yet, so it may be deleted"
    ):
        pin_recipe(other, store)
    store.commit("book.json", b"{}")  # it may have reserved a part of its book
    with pytest.raises(InputError, match=r"recipe\.yaml that lies there$"):
        pin_recipe(other, store)


def test_the_commands_on_a_finished_run(done, tmp_path, capsys):
    run = str(done[0])
    for arguments in (["status", run], ["privacy", run], ["evaluate", run]):
        assert main(arguments) == 0
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
    for name in ("s.parquet", "s.csv", "s.jsonl", "folder"):
        assert main(["export", run, "--to", str(tmp_path / name)]) == 0
    assert len(list((tmp_path / "folder").rglob("*.png"))) == 40
    assert main(["export", run, "--to", str(tmp_path / "s.xyz")]) == 2
    assert main(["privacy", run, run]) == 2


def test_a_failure_right_after_the_noise_gives_the_same_noise(done, small, tmp_path, secret_file, monkeypatch):
    real, broken = steps.commit_selection, []

    def fail_once(run, iteration):
        if iteration == 1 and not broken:
            broken.append(1)
            raise ValueError("a private value")
        return real(run, iteration)

    monkeypatch.setattr(steps, "commit_selection", fail_once)
    with pytest.raises(Exception, match="stage Select failed") as caught:
        evolve(parse_recipe(small), tmp_path / "run", secret_file=secret_file)
    assert "a private value" not in str(caught.value)
    released = [path.name for path in (tmp_path / "run/release").iterdir()]
    assert released == ["iteration=0000"]
    evolve(parse_recipe(small), tmp_path / "run", secret_file=secret_file)
    assert release_digests(tmp_path / "run") == release_digests(done[0])


def test_embeddings_that_come_back_otherwise_change_no_committed_count(done):
    run = open_run(done[0])
    before = (done[0] / counting.counts_name(1)).read_bytes()
    counting.commit_counts(run, 1, np.full(40, 7, dtype=np.int64), matrices.load_matrix(run, 1).digest)
    assert (done[0] / counting.counts_name(1)).read_bytes() == before


def test_a_secret_that_is_missing_or_of_another_run_is_refused(small, tmp_path, secret_file, monkeypatch):
    def stop(run, iteration):
        raise ValueError

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        real = steps.commit_selection
        patch.setattr(steps, "commit_selection", lambda r, t: stop(r, t) if t else real(r, t))
        with pytest.raises(Exception, match="failed"):
            evolve(parse_recipe(small), run, secret_file=secret_file)
    other = tmp_path / "other"
    other.write_bytes(b"o" * 32)
    with pytest.raises(InputError, match="not the secret of this run"):
        evolve(parse_recipe(small), run, secret_file=other)
    (run / "private/secret.key").unlink()
    with pytest.raises(InputError, match=r"secret\.key is missing"):
        evolve(parse_recipe(small), run)
    with pytest.raises(InputError, match="another secret"):
        evolve(parse_recipe(small), run, secret_file=other)


def test_a_second_run_at_once_is_refused(small, tmp_path):
    with open_store(tmp_path / "run").lock(), pytest.raises(LockedError):
        evolve(parse_recipe(small), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"evolution.keep_parents": True, "evolution.selection": "rank"},
        {"evolution.lookahead": 2, "evolution.distance": "cosine"},
        {"evolution.votes_per_record": 9, "privacy.label_counts": {"budget": 0.2}},
        {"evolution.final": "selected", "evolution.threshold": "auto", "privacy.adjacency": "replace-one"},
    ],
)
def test_the_other_ways_to_evolve(small, tmp_path, changes):
    for key, value in changes.items():
        section, name = key.split(".")
        small[section][name] = value
    run = evolve(parse_recipe(small), tmp_path / "run")
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 40
    lines = (tmp_path / "run/ledger.jsonl").read_text().splitlines()
    assert len(lines) == 2 + bool(run.recipe.privacy.label_budget())


def test_infinite_epsilon_is_marked_everywhere(small, runs):
    small["privacy"]["epsilon"] = "inf"
    run = runs.finished(small)
    top = run / "release-NOT-PRIVATE"
    assert not (run / "release").exists()
    record = json.loads((top / "privacy.json").read_text())
    assert record["epsilon"] == record["spent_epsilon"] == "inf"
    for path in top.rglob("*"):
        if path.suffix == ".parquet":
            assert b"NOT PRIVATE" in path.read_bytes()
        if path.suffix in (".json", ".html"):
            assert "NOT PRIVATE" in path.read_text()


def test_purge_keeps_release_and_ledger(small, runs, tmp_path, capsys):
    copied(runs.finished(small), tmp_path / "run")
    before = release_digests(tmp_path / "run")
    assert main(["purge", str(tmp_path / "run")]) == 0
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["ledger.jsonl", "recipe.yaml", "release", "secret.json"]
    evolve(parse_recipe(small), tmp_path / "run")
    assert release_digests(tmp_path / "run") == before


def test_the_pipelines_one_by_one_give_the_same_release(done, small, tmp_path, secret_file):
    from pe_beam.driver.loop import evolve as finish
    from pipelines import embed, iteration

    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(small))
    assert embed.main([f"--recipe={path}", f"--run_dir={run}"]) == 0
    (run / "private/secret.key").unlink()
    (run / "private/secret.key").write_bytes(secret_file.read_bytes())
    for t in (0, 1, 1, 2):
        assert iteration.main([f"--run_dir={run}", f"--iteration={t}"]) == 0
    assert iteration.main([f"--run_dir={run}", "--iteration=3"]) == 2
    finish(parse_recipe(small), run)
    here, there = release_digests(run), release_digests(done[0])
    told = {"privacy.json", "report.html"}  # which say that the secret of the one was supplied
    assert {k: v for k, v in here.items() if k not in told} == {k: v for k, v in there.items() if k not in told}
    assert set(here) == set(there)


def test_status_shows_the_running_job_and_its_stage(small, tmp_path, monkeypatch, capsys):
    real, seen = counting.commit_histogram, []

    def look(run, iteration):
        assert main(["status", str(tmp_path / "run"), "--json"]) == 0
        seen.append(json.loads(capsys.readouterr().out))
        real(run, iteration)

    monkeypatch.setattr(counting, "commit_histogram", look)
    evolve(parse_recipe(small), tmp_path / "run")
    found = seen[1]
    assert found["state"] == "running"
    assert found["job"] == "Iteration 02"
    assert found["runner"] == "FnApiRunner"
    assert found["stage"] == "voting"
    assert found["iterations_done"] == 1


def test_all_below_the_threshold_is_handled_and_said(small, tmp_path, capsys):
    small["evolution"]["threshold"] = "100 sigma"
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    assert "nothing passed the threshold for label 0, 1, 2" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "run/release/iteration=0001/manifest.json").read_text())
    assert set(manifest["selection"]["fallback"].values()) <= {"threshold-0", "uniform"}
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 40


def test_what_was_bought_is_in_the_statement(small, tmp_path):
    small["privacy"]["label_counts"] = {"budget": 0.1}
    run = evolve(parse_recipe(small), tmp_path / "run")
    record = json.loads(run.store.read("release/privacy.json"))
    assert "and the noisy label counts that were bought before them" in record["statement"]


def test_without_noise_an_export_is_named_for_it(small, runs, tmp_path):
    small["privacy"]["epsilon"] = "inf"
    run = str(runs.finished(small))
    for name in ("x.jsonl", "x.csv", "x.parquet", "x"):
        assert main(["export", run, "--to", str(tmp_path / name)]) == 2
        assert not (tmp_path / name).exists()
    assert main(["export", run, "--to", str(tmp_path / "x-NOT-PRIVATE.jsonl")]) == 0


def test_a_run_by_its_noise_multiplier_says_what_it_spends(small, tmp_path, secret_file, capsys):
    """The release is that of the same noise under its epsilon, but for the budget that is named."""
    small["privacy"] = {"epsilon": None, "noise_multiplier": [4, 5], "delta": 1e-5}
    run = evolve(parse_recipe(small), tmp_path / "run", secret_file=secret_file)
    record = json.loads(run.store.read("release/privacy.json"))
    assert record["noise_multiplier"] == [4, 5]
    assert record["epsilon"] == record["spent_epsilon"] == accounting.spent_epsilon([4, 5], 1e-5)
    assert f"({rounded_up(record['spent_epsilon'])}, 1e-05)-differentially private" in record["statement"]
    lines = [json.loads(line) for line in (tmp_path / "run/ledger.jsonl").read_text().splitlines()]
    assert [line["noise_multiplier"] for line in lines] == [4, 5]
    assert main(["status", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epsilon"] == record["epsilon"]
    small["privacy"]["noise_multiplier"] = [4, 6]
    with pytest.raises(InputError, match=r"privacy\.noise_multiplier"):
        evolve(parse_recipe(small), tmp_path / "run")
