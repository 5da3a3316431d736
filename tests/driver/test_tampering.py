"""Run directories that lost or gained something: mended to the same bytes, or refused with nothing spent anew."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.driver import loop as driver
from pe_beam.driver.loop import evolve
from pe_beam.engine import counting, steps
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import open_run
from pe_beam.errors import InputError, PeBeamError, RecipeError, SecretError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.storage.local import LocalStore
from tests.whole_runs import copied, parquet_recipe, picture_table, release_digests, stop_at, stop_half_way


@pytest.fixture
def half(small, runs, tmp_path):
    return copied(runs.half(small), tmp_path / "run")


@pytest.fixture
def whole(small, runs):
    """The release of an undisturbed run."""
    return release_digests(runs.finished(small))


def _shard(run: Path) -> Path:
    index = read_index(open_run(run))
    assert index is not None
    return run / index["shards"][0]["shard"]


def test_pooled_votes_are_found_again_without_work(small, tmp_path, secret_file, monkeypatch):
    """Selection by smoothing looks back at all iterations: at what was released, not at what `work/` may have lost."""
    small["evolution"] |= {"smoothing": 0.5, "samples": 80}
    evolve(parse_recipe(small), tmp_path / "whole", secret_file=secret_file)
    stop_half_way(small, tmp_path / "run", secret_file)
    shutil.rmtree(tmp_path / "run/work")
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    evolve(parse_recipe(small), tmp_path / "run", flags)
    assert release_digests(tmp_path / "run") == release_digests(tmp_path / "whole")
    small["evolution"]["smoothing"] = 0
    evolve(parse_recipe(small), tmp_path / "other", secret_file=secret_file)
    assert release_digests(tmp_path / "other") != release_digests(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["work", "private/counts", "private/embeddings/shard", "work/iteration=0002"])
def test_what_can_be_made_again_is_made_the_same(half, whole, small, lost):
    path = _shard(half) if lost.endswith("shard") else half / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    evolve(parse_recipe(small), half)
    assert release_digests(half) == whole


def test_a_frozen_shard_that_was_changed_is_refused(half, small):
    path = _shard(half)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    for name in ("private/counts/iteration=0002.parquet", "work/iteration=0002"):
        target = half / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    before = (half / "ledger.jsonl").read_bytes()
    with pytest.raises(InputError, match="a frozen file is missing or damaged"):
        evolve(parse_recipe(small), half)
    assert (half / "ledger.jsonl").read_bytes() == before


def test_other_counts_are_not_noised_a_second_time(half, small):
    """The candidate matrix changed before a recount: another count under the same ledger line."""
    (half / "private/counts/iteration=0002.parquet").unlink()
    (half / "work/iteration=0002/histogram.parquet").unlink()
    matrix = np.load(half / "work/iteration=0002/matrix.npy")
    (half / "work/iteration=0002/matrix.npy").unlink()
    np.save(half / "work/iteration=0002/matrix.npy", np.roll(matrix, 2, axis=0))
    with pytest.raises(InputError, match="was noised with other counts before"):
        evolve(parse_recipe(small), half)


def test_another_file_in_the_release_is_refused(half, small):
    target = half / "release/iteration=0002/histogram/part-00000.parquet"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something else")
    with pytest.raises(PeBeamError, match="not what this run has made"):
        evolve(parse_recipe(small), half)


def test_leftovers_of_a_vanished_ledger_are_refused(half, small):
    (half / "ledger.jsonl").unlink()
    with pytest.raises(InputError, match="no line for iteration 1, which has read private data"):
        evolve(parse_recipe(small), half)
    assert main(["privacy", str(half)]) == 2


def test_counts_of_other_data_are_never_noised(half, small, tmp_path, secret_file, monkeypatch):
    """Ledger and release are gone, counts were copied in from another run."""
    other = parquet_recipe(small, picture_table(60), tmp_path / "b")
    stop_half_way(other, tmp_path / "run-b", secret_file)
    shutil.rmtree(tmp_path / "run-b/work/iteration=0002")
    shutil.copy(half / counting.counts_name(2), tmp_path / "run-b" / counting.counts_name(2))
    with pytest.raises(InputError, match="counts of another run or of other data"):
        evolve(parse_recipe(other), tmp_path / "run-b")


def test_bought_label_shares_need_their_line(small, tmp_path, secret_file, monkeypatch):
    small["privacy"]["label_counts"] = {"budget": 0.3}
    stop_half_way(small, tmp_path / "run", secret_file)
    lines = (tmp_path / "run/ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/ledger.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(InputError, match="no line for iteration 0"):
        evolve(parse_recipe(small), tmp_path / "run")
    (tmp_path / "run/ledger.jsonl").write_text("".join(lines))
    shutil.rmtree(tmp_path / "run/work")  # the released label shares are read instead
    evolve(parse_recipe(small), tmp_path / "run")
    record = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert 0.999 < record["spent_epsilon"] <= 1


def test_embeddings_of_another_recipe_are_not_used(small, tmp_path, monkeypatch):
    def stop(*_):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(driver, "run_iteration", stop)
        with pytest.raises(RuntimeError):
            evolve(parse_recipe(small), tmp_path / "run")
    (tmp_path / "run/recipe.yaml").unlink()
    small["data"]["labels"] = small["data"]["labels"][::-1]
    with pytest.raises(InputError, match="embeddings of another recipe"):
        evolve(parse_recipe(small), tmp_path / "run")


def test_two_runs_in_one_process_and_one_folder_share_no_voter(small, tmp_path, secret_file):
    tables = [picture_table(200), picture_table(200, seed=6)]
    first = parquet_recipe(small, tables[0], tmp_path / "a")
    evolve(parse_recipe(first), tmp_path / "run", secret_file=secret_file)
    shutil.rmtree(tmp_path / "run")
    second = parquet_recipe(small, tables[1], tmp_path / "b")
    evolve(parse_recipe(second), tmp_path / "run", secret_file=secret_file)
    evolve(parse_recipe(second), tmp_path / "clean", secret_file=secret_file)
    assert release_digests(tmp_path / "run") == release_digests(tmp_path / "clean")


def test_a_wrong_secret_does_not_take_the_place_of_the_right_one(half, whole, small, tmp_path, secret_file):
    (half / "private/secret.key").unlink()
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"w" * 32)
    with pytest.raises(SecretError, match="another secret"):
        evolve(parse_recipe(small), half, secret_file=wrong)
    assert not (half / "private/secret.key").exists()
    evolve(parse_recipe(small), half, secret_file=secret_file)
    assert release_digests(half) == whole


def test_a_budget_that_cannot_be_drawn_is_refused_by_the_plan(small):
    small["privacy"]["label_counts"] = {"budget": 1e-30}
    with pytest.raises(RecipeError, match="beyond what can be drawn"):
        make_plan(parse_recipe(small))


def test_privacy_of_an_unfinished_run_says_so(half, capsys):
    lines = (half / "ledger.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert main(["privacy", str(half)]) == 0
    assert "so far" in capsys.readouterr().out


def test_beam_flags_that_are_wrong_are_refused_in_one_line(small, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run"), "--", "--direct_num_workers=abc"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "Beam flags" in said[0]
    assert not (tmp_path / "run/private").exists()


def test_purge_empties_a_linked_folder(half, tmp_path):
    (half / "private").rename(tmp_path / "elsewhere")
    (half / "private").symlink_to(tmp_path / "elsewhere")
    assert main(["purge", str(half)]) == 0
    assert not (tmp_path / "elsewhere").exists()
    assert not (half / "private").is_symlink()


@pytest.mark.parametrize("name", ["recipe.yaml", "private/embeddings/index.json"])
def test_a_damaged_file_is_named(half, small, name):
    (half / name).write_bytes(b"{\xff: [")
    with pytest.raises(InputError, match="damaged"):
        evolve(parse_recipe(small), half)


def test_times_of_released_files_tell_nothing(runs, small):
    release = runs.finished(small) / "release"
    assert len({path.stat().st_mtime for path in release.rglob("*") if path.is_file()}) == 1


def test_a_faulty_disk_names_no_digest(small, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(parquet_recipe(small, picture_table(30), tmp_path)))
    real = LocalStore.commit

    def commit(self, name, write, **options):
        return real(self, name, full if name.endswith(".parquet") else write, **options)

    monkeypatch.setattr(LocalStore, "commit", commit)
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "writing private/embeddings failed: no space is left" in said
    assert not re.search(r"[0-9a-f]{12}", said.replace(str(tmp_path), ""))  # neither a row number nor a digest


@pytest.mark.parametrize("command", ["status", "run"])
@pytest.mark.parametrize("data", [b"", b"[]\n", b"{}\n"])
def test_a_damaged_manifest_is_named(half, small, tmp_path, capsys, command, data):
    (half / "release/iteration=0001/manifest.json").write_bytes(data)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(small))
    before = (half / "ledger.jsonl").read_bytes()
    assert (
        main([command, *([str(half)] if command == "status" else [str(tmp_path / "r.yaml"), "--run-dir", str(half)])])
        == 2
    )
    assert "release/iteration=0001/manifest.json: damaged" in capsys.readouterr().err
    assert (half / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["iteration=0001/histogram/part-00000.parquet", "iteration=0000/population/part-00000.parquet"]
)
def test_a_resume_spends_nothing_on_a_damaged_release(small, runs, tmp_path, name):
    run = (
        copied(runs.begun(small), tmp_path / "run")
        if name.startswith("iteration=0000")
        else copied(runs.half(small), tmp_path / "run")
    )
    path, ledger = run / "release" / name, run / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    before = ledger.read_bytes() if ledger.exists() else b""
    with pytest.raises(InputError, match=f"{name}: not what this run has made"):
        evolve(parse_recipe(small), run)
    assert (ledger.read_bytes() if ledger.exists() else b"") == before


@pytest.mark.parametrize("name", ["selection.parquet", "chunks/000000000.parquet"])
def test_a_bit_that_a_disk_has_flipped_is_not_released(small, runs, whole, tmp_path, name, secret_file):
    run = copied(runs.half(small), tmp_path / "run")
    stop_at(steps, "_commit_files", parse_recipe(small), run, secret_file)
    path = run / "work/iteration=0002" / name
    data = bytearray(path.read_bytes())
    ids = pq.ParquetFile(path).metadata.row_group(0).column(0)  # with compression most flips give other numbers
    data[ids.dictionary_page_offset + ids.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: damaged.*delete it"):
        evolve(parse_recipe(small), run)
    path.unlink()
    evolve(parse_recipe(small), run)
    assert release_digests(run) == whole


@pytest.mark.parametrize("command", ["status", "privacy"])
def test_a_damaged_promise_is_named(small, runs, tmp_path, capsys, command):
    run = copied(runs.finished(small), tmp_path / "run")
    (run / "release/privacy.json").write_bytes(b"{")
    status = main([command, str(run)])
    assert status == (2 if command == "privacy" else 0)
    assert ("release/privacy.json: damaged" in capsys.readouterr().err) == (command == "privacy")


def test_a_power_failure_may_tear_the_times(half, capsys):
    """They are the only file that is not forced to the disk."""
    before = (half / "private/times.jsonl").read_bytes()
    (half / "private/times.jsonl").write_bytes(before + bytes(512) + b"\n\xff{\n" + before)
    assert main(["status", str(half), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["times"]) == 2 * before.count(b"\n")
