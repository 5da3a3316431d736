"""`evaluate` as a job on real runs: against direct computation, on bad days, and where its files may lie."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.errors import DataError, InputError
from pe_beam.evaluation import gather, measure, outcome, page, pairs
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.metrics.distances import frechet_distance, kernel_distance
from pe_beam.metrics.manifold import compare_manifolds, neighbour_radii
from pe_beam.metrics.memorisation import memorisation
from pe_beam.metrics.moments import Moments
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.recipe.loading import parse_recipe
from pipelines import evaluate as pipeline
from tests.evaluation.pictures import LABELS, pictures, write_files

TRAINING, HELD_OUT = (5, 40, 61), (30, 1, 33)  # records in each of several files: several pieces and shards
SECRET_LABEL = "zzz-private-label"


def recipe_on(small: dict[str, Any], folder: Path) -> dict[str, Any]:
    small["data"] = {"source": "parquet", "path": str(folder / "training"), "labels": LABELS}
    small["data"]["holdout"] = str(folder / "held-out")
    small["evolution"] = {"iterations": 2, "samples": 30}
    return small


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run on several files of training and of held-out records."""
    from tests.whole_runs import SMALL

    folder = tmp_path_factory.mktemp("evaluation")
    write_files(folder / "training", TRAINING, 10)
    write_files(folder / "held-out", HELD_OUT, 20)
    evolve(parse_recipe(recipe_on(json.loads(json.dumps(SMALL)), folder)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def found(done) -> dict[str, Any]:
    return evaluate(done, iterations="all")


@pytest.fixture
def copy(done, tmp_path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(done, tmp_path / "copy"))


def vectors_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(folder)
    codes = np.array([LABELS.index(label) for label in table["label"].to_pylist()])
    return Pixels(PixelsOptions(size=8)).embed(table).vectors, codes


def digests(folder: Path, *, leave: tuple[str, ...] = ()) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {str(path.relative_to(folder)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(leave)
    }


# --- the figures -----------------------------------------------------------------------------------------------------


def test_every_figure_equals_a_direct_computation(done, found):
    real, real_codes = vectors_of(done.parent / "held-out")
    training, codes = vectors_of(done.parent / "training")
    radii = neighbour_radii(real, [3, 5])
    nearest = ((real[:, None].astype(float) - training[None]) ** 2).sum(axis=2).min(axis=1)
    for entry in found["iterations"]:
        made, labels = vectors_of(done / f"release/iteration={entry['iteration']:04d}/population")
        figures = entry["metrics"]
        assert figures["frechet_distance"] == pytest.approx(frechet_distance(Moments.of(made), Moments.of(real)))
        assert figures["kernel_distance"] == pytest.approx(kernel_distance(made, real)[0])
        manifold = compare_manifolds(made, real, real_radii=radii)
        for key in ("precision", "recall", "density", "coverage"):
            assert figures[key] == getattr(manifold, key)
        for name, model in (("svc_rbf", SVC()), ("logistic_regression", LogisticRegression(max_iter=300))):
            model.fit(made.astype(float), labels)
            assert figures[f"{name}_accuracy"] == pytest.approx(model.score(real.astype(float), real_codes))
        if entry["iteration"] == 0:
            assert "before any record" in entry["memorisation"]["left_out"]
            continue
        near = ((made[:, None].astype(float) - training[None]) ** 2).sum(axis=2).min(axis=1)
        expected = memorisation(near, nearest)
        assert entry["memorisation"]["quantiles"] == [pytest.approx(row) for row in expected["quantiles"]]
        assert entry["memorisation"]["probability_closer"] == pytest.approx(expected["probability_closer"])
    best = SVC().fit(training.astype(float), codes).score(real.astype(float), real_codes)
    assert found["ceiling"]["metrics"]["svc_rbf_accuracy"] == pytest.approx(best)
    assert found["floor"]["metrics"] == found["iterations"][0]["metrics"]
    assert found["metrics"] == found["iterations"][-1]["metrics"]
    assert found["records"]["held_out"] == sum(HELD_OUT)
    assert found["records"]["training"] == sum(TRAINING)


def test_the_ceiling_is_of_as_many_records_as_there_are_samples(found):
    """Fréchet distance depends on how many are compared: 30 training records, not all 106."""
    assert found["ceiling"]["metrics"]["frechet_distance"] > 0
    assert set(found["ceiling"]["metrics"]) == set(found["metrics"])


@pytest.mark.parametrize(
    "args",
    [
        ["--direct_runner_bundle_repeat=1"],
        ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    ],
)
def test_repeated_bundles_and_two_workers_give_the_same_file(copy, found, args):
    assert evaluate(copy, args, iterations="all") == found


def test_last_is_all_without_the_populations_between(copy, found):
    last = evaluate(copy)
    assert [entry["iteration"] for entry in last["iterations"]] == [0, 2]
    assert last["iterations"] == [found["iterations"][0], found["iterations"][2]]
    assert last["metrics"] == found["metrics"]
    assert evaluate(copy) == last


def test_bounded_memory_keeps_all_records_where_sums_suffice(copy, found, monkeypatch):
    """With 25 rows of a kind in memory Fréchet distance and nearest records still see every record."""
    for module in (gather, outcome):
        monkeypatch.setattr(module, "REAL_ROWS", 25)
    few = evaluate(copy)
    assert few["metrics"]["frechet_distance"] == found["metrics"]["frechet_distance"]
    assert few["metrics"]["kernel_distance"] != found["metrics"]["kernel_distance"]
    assert few["memorisation"]["samples"] == few["memorisation"]["held_out"] == 25
    assert any("drawn by position" in note for note in few["notes"])


def test_portions_are_few_and_hold_every_row(done, monkeypatch):
    monkeypatch.setattr(gather, "MOST_PORTIONS", 2)
    from pe_beam.engine.run import open_run
    from pe_beam.evaluation.setting import HELD_OUT as HELD_OUT_GROUP
    from pe_beam.evaluation.setting import Setting

    setting = Setting(against=None, populations=(0, 2))
    run = open_run(done)
    setting.save(run)
    pieces = [(HELD_OUT_GROUP, setting.held_out(run).pieces())]
    portions = gather.list_portions(run, setting, pieces)
    held_out = [portion for portion in portions if portion.group == "held-out"]
    assert [(p.place, p.first, len(p.parts)) for p in held_out] == [(0, 0, 2), (1, 31, 1)]
    assert {p.total for p in held_out} == {sum(HELD_OUT)}


# --- where it writes -------------------------------------------------------------------------------------------------


def test_nothing_is_written_outside_private_and_the_release_stays(copy, capfd):
    before = digests(copy, leave=("private/evaluation", "work/job.json"))
    assert main(["evaluate", str(copy), "--json"]) == 0
    assert digests(copy, leave=("private/evaluation", "work/job.json")) == before
    kept = ["embeddings", "evaluation.html", "evaluation.json"]
    assert sorted(x.name for x in (copy / "private/evaluation").iterdir()) == kept
    said = capfd.readouterr()
    assert said.err.splitlines()[0] == "reading and embedding"
    printed = json.loads(said.out)
    assert printed == json.loads((copy / "private/evaluation/evaluation.json").read_text())
    assert printed["notice"].startswith("NOT A RELEASE")
    assert {"against", "metrics"} <= set(printed)
    assert {"frechet_distance", "svc_rbf_accuracy", "logistic_regression_accuracy"} <= set(printed["metrics"])


def test_the_terminal_shows_floor_and_ceiling_and_says_what_it_is(copy, capsys):
    assert main(["evaluate", str(copy)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("NOT A RELEASE")
    assert "ceiling" in said
    assert "exact duplicates" in said


@pytest.mark.reported
def test_the_page_is_marked_self_contained_and_shows_the_closest_pairs(done, found):
    text = (done / "private/evaluation/evaluation.html").read_text()
    assert "NOT A RELEASE" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert text.count('class="pair"') == 12
    assert "The same as a table" in text


def test_a_holdout_that_cannot_be_read_says_the_key_and_no_value(copy, tmp_path, capsys):
    bad = tmp_path / SECRET_LABEL
    bad.mkdir()
    pq.write_table(pa.table({"image": [b"secret-bytes"] * 3, "label": [SECRET_LABEL, None, "1"]}), bad / "x.parquet")
    assert main(["evaluate", str(copy), "--against", str(bad / "x.parquet")]) == 2
    said = capsys.readouterr()
    assert "fewer than 2 records" in said.err
    assert "secret-bytes" not in said.err
    assert SECRET_LABEL not in said.err
    (bad / "x.parquet").write_bytes(b"no parquet")
    assert main(["evaluate", str(copy), "--against", str(bad / "x.parquet")]) == 2
    assert "--against" in capsys.readouterr().err
    assert not (copy / "private/evaluation/work").exists()


def test_unusable_held_out_records_are_counted_by_kind(copy, tmp_path):
    table = pictures(20, 0)
    extra = pa.table({"image": [b"no picture", table["image"][0].as_py()], "label": ["1", SECRET_LABEL]})
    pq.write_table(pa.concat_tables([table, extra]), tmp_path / "x.parquet")
    found = evaluate(copy, against=str(tmp_path / "x.parquet"))
    assert (found["records"]["held_out"], found["records"]["held_out_unusable"]) == (20, 2)
    assert len(found["records"]["held_out_faults"]) == 2
    assert SECRET_LABEL not in json.dumps(found)


@pytest.mark.parametrize("copies", [23, 20])  # of 43: just more than half, and not
def test_records_that_voted_are_no_held_out_ones_and_that_is_told(done, copy, tmp_path, copies):
    own = pq.read_table(done.parent / "training").slice(0, copies)
    others = pq.read_table(done.parent / "held-out").slice(0, 43 - copies)
    pq.write_table(pa.concat_tables([own, others]), tmp_path / "x.parquet")
    found = evaluate(copy, against=str(tmp_path / "x.parquet"))
    notes = [note for note in found["notes"] if "as a training record" in note]
    assert len(notes) == (copies == 23)
    assert not notes or (f"{copies} of 43" in notes[0] and "--against" in notes[0])


def test_a_first_population_of_an_earlier_release_is_not_said_to_know_no_record(done, small, tmp_path):
    small = recipe_on(small, done.parent)
    small["evolution"] = {"iterations": 1, "samples": 12, "start": {"release": str(done)}}
    evolve(parse_recipe(small), tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert found["floor"]["from"] == found["iterations"][0]["memorisation"]["left_out"]
    assert "earlier release" in found["floor"]["from"]


# --- what may be missing ---------------------------------------------------------------------------------------------


@pytest.mark.reported
def test_a_purged_run_is_evaluated_and_says_what_is_left_out(copy, found, capsys):
    assert main(["purge", str(copy)]) == 0
    capsys.readouterr()
    left = evaluate(copy)
    assert "purged" in left["memorisation"]["left_out"]
    assert left["records"]["training"] is None
    assert left["metrics"] == found["metrics"]
    assert "each half" in left["ceiling"]["from"]
    assert 0 < left["ceiling"]["metrics"]["svc_rbf_accuracy"] <= 1
    assert "frechet_distance" not in left["ceiling"]["metrics"]
    assert any("memorisation" in note for note in left["notes"])
    assert "Left out" in (copy / "private/evaluation/evaluation.html").read_text()
    assert main(["evaluate", str(copy)]) == 0


@pytest.mark.reported
def test_closest_pairs_are_the_very_records_though_some_were_rejected(small, tmp_path):
    """Every third private record is no picture: a frozen row is then not the row of the file."""
    table = pictures(60, 7)
    images = [b"no picture" if i % 3 == 0 else x for i, x in enumerate(table["image"].to_pylist())]
    pq.write_table(pa.table({"image": images, "label": table["label"]}), tmp_path / "real.parquet")
    small["data"] = {"source": "parquet", "path": str(tmp_path / "real.parquet"), "labels": LABELS, "max_rejects": 0.5}
    small["evolution"] = {"iterations": 1, "samples": 12}
    evolve(parse_recipe(small), tmp_path / "run")
    seen: list[pairs.Pair] = []
    real = pairs.closest_pairs

    def keep(run, setting):
        seen.extend(real(run, setting))
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "closest_pairs", keep)
        evaluate(tmp_path / "run", against=str(tmp_path / "real.parquet"))
    embedder = Pixels(PixelsOptions(size=8))
    assert len(seen) == 12
    for pair in seen:
        both = pa.table({"image": [pair.sample["image"], pair.record["image"]]})
        a, b = embedder.embed(both).vectors.astype(float)
        assert pair.distance == pytest.approx(np.linalg.norm(a - b))


@pytest.mark.reported
def test_moved_private_records_leave_the_pairs_away_and_nothing_else(copy, found, monkeypatch):
    text = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(text.replace(str(copy.parent), "/nowhere").replace("/training", "/gone"))
    left = evaluate(copy)
    assert left["memorisation"] == found["memorisation"]
    assert "Not shown" in (copy / "private/evaluation/evaluation.html").read_text()


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_a_damaged_shard_of_embeddings_is_named_by_its_folder(copy, damage):
    shard = next((copy / "private/embeddings").glob("*-*.parquet"))
    if damage == "remove":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-8] + b"12345678")
    with pytest.raises(DataError, match="private/embeddings") as caught:
        evaluate(copy)
    assert shard.name not in str(caught.value)


def test_an_unfinished_run_a_missing_holdout_and_a_wrong_word_are_refused(copy, small, tmp_path, capsys):
    with pytest.raises(InputError, match="last or all"):
        evaluate(copy, iterations="some")
    (copy / "release/privacy.json").unlink()
    assert main(["evaluate", str(copy)]) == 2
    assert "not complete" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    del small["data"]["holdout"]
    evolve(parse_recipe(small), tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "--against" in capsys.readouterr().err


def test_an_older_result_is_never_taken_for_a_new_one(copy, monkeypatch):
    evaluate(copy)
    monkeypatch.setattr(measure, "measure", lambda run, name: 1 / 0)
    with pytest.raises(Exception, match="stage Measure failed"):
        evaluate(copy)


# --- tiny data -------------------------------------------------------------------------------------------------------


def test_two_records_of_one_label_and_two_samples(small, tmp_path):
    black = encode_png(np.zeros((8, 8), np.uint8))
    pq.write_table(pa.table({"image": [black, black], "label": ["a", "a"]}), tmp_path / "real.parquet")
    small["data"] = {"source": "parquet", "path": str(tmp_path / "real.parquet"), "labels": ["a"]}
    small["evolution"] = {"iterations": 1, "samples": 2}
    evolve(parse_recipe(small), tmp_path / "run")
    found = evaluate(tmp_path / "run", against=str(tmp_path / "real.parquet"))
    assert all(math.isfinite(value) for value in found["metrics"].values())
    assert found["memorisation"]["held_out_exact_duplicates"] == 2
    assert "svc_rbf_accuracy" not in found["metrics"]
    assert any("No classifiers" in note for note in found["notes"])


@pytest.mark.parametrize("records", [0, 1])
def test_a_run_without_a_record_is_evaluated(small, tmp_path, records):
    """Under `never_stop` no record is an ordinary input; one alone has no spread."""
    write_files(tmp_path / "held-out", (20,), 20)
    small = recipe_on(small, tmp_path)
    (tmp_path / "training").mkdir()
    pq.write_table(pictures(1, 3).slice(0, records), tmp_path / "training/one.parquet")
    small["data"]["never_stop"] = True
    evolve(parse_recipe(small), tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert found["records"]["training"] == (records or None)
    assert ("no record voted" in found["memorisation"].get("left_out", "")) == (records == 0)
    assert "svc_rbf_accuracy" in found["ceiling"]["metrics"]


def test_clients_and_cosine_distance(small, tmp_path):
    """Held-out records need no client; vectors are normalised as those that voted are."""
    table = pictures(40, 3)
    clients = pa.array([f"c{i % 7}" for i in range(40)])
    pq.write_table(table.append_column("client", clients), tmp_path / "real.parquet")
    pq.write_table(pictures(30, 4), tmp_path / "held.parquet")
    small["data"] = {"source": "parquet", "path": str(tmp_path / "real.parquet"), "labels": LABELS}
    small["data"]["holdout"] = str(tmp_path / "held.parquet")
    small["evolution"] = {"iterations": 1, "samples": 9, "distance": "cosine"}
    small["privacy"]["unit"] = "client"
    evolve(parse_recipe(small), tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert found["records"]["held_out"] == 30
    assert max(row[2] for row in found["memorisation"]["quantiles"]) <= 2
    found_again = pipeline.main([f"--run_dir={tmp_path / 'run'}", "--iterations=all"])
    assert found_again == 0
