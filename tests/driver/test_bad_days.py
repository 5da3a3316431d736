"""What goes wrong on a user's machine: one clear message, the stated exit status, nothing spent, nothing private."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.engine import counting
from pe_beam.engine.spending import grid_bits
from pe_beam.modalities.image.codec import encode_png
from tests.commands import run_command


def _folder(path: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for label in ("0", "1"):
        (path / label).mkdir(parents=True)
        for i in range(count):
            data = encode_png(rng.integers(0, 255, (16, 16), dtype=np.uint8))
            (path / label / f"secretname-{i}.png").write_bytes(data)
    return path


@pytest.fixture
def images(small, tmp_path):
    """A recipe on a folder of images with labels 0, 1 and 2; nothing lies under 2, which is ordinary."""
    small["data"] = {"source": "folder", "path": str(_folder(tmp_path / "images")), "labels": ["0", "1", "2"]}
    return small


def _run(recipe: dict[str, Any], tmp_path: Path, *more: str) -> int:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return main(["run", str(path), "--run-dir", str(tmp_path / "run"), *more])


def _refused(recipe, tmp_path, capsys, *said: str, status: int = 2) -> None:
    assert _run(recipe, tmp_path) == status
    message = capsys.readouterr().err
    for text in said:
        assert text in message
    assert "Traceback" not in message
    assert "secretname" not in message
    assert not (tmp_path / "run/ledger.jsonl").exists()


def test_an_image_folder_with_an_empty_label_runs(images, tmp_path):
    assert _run(images, tmp_path) == 0
    assert len(pq.read_table(tmp_path / "run/release/samples.parquet")) == 40


def test_one_truncated_image_is_a_reject_and_many_stop_the_run(images, tmp_path, capsys):
    bad = sorted((tmp_path / "images/0").iterdir())
    bad[0].write_bytes(bad[0].read_bytes()[:60])
    images["data"]["max_rejects"] = 0.01
    _refused(images, tmp_path, capsys, "data.max_rejects", "image that cannot be read")
    images["data"]["max_rejects"] = 0.1
    shutil.rmtree(tmp_path / "run")
    assert _run(images, tmp_path) == 0
    rejects = "".join(path.read_text() for path in (tmp_path / "run/private/rejects").iterdir())
    assert "secretname" in rejects


def test_a_mended_folder_goes_on_in_the_same_run_directory(images, tmp_path, capsys):
    bad = min((tmp_path / "images/0").iterdir())
    whole = bad.read_bytes()
    bad.write_bytes(b"")
    images["data"]["max_rejects"] = 0
    _refused(images, tmp_path, capsys, "data.max_rejects")
    bad.write_bytes(whole)
    assert _run(images, tmp_path) == 0
    assert not list((tmp_path / "run/private").glob("rejects/*"))


def test_an_unknown_label_is_a_reject(images, tmp_path, capsys):
    images["data"]["labels"] = ["0", "7"]
    _refused(images, tmp_path, capsys, "not declared in data.labels")


def test_no_data(images, tmp_path, capsys):
    images["data"]["path"] = str(tmp_path / "nowhere")
    _refused(images, tmp_path, capsys, "data.path")
    (tmp_path / "nowhere").mkdir()
    _refused(images, tmp_path, capsys, "data.path")


def test_wrong_columns_of_parquet(images, tmp_path, capsys):
    pq.write_table(pa.table({"image": ["not bytes"], "label": ["0"]}), tmp_path / "d.parquet")
    images["data"] |= {"source": "parquet", "path": str(tmp_path / "d.parquet")}
    _refused(images, tmp_path, capsys, "data.columns.image")
    images["data"]["columns"] = {"image": "picture"}
    _refused(images, tmp_path, capsys, "data.columns.image")


def test_changed_data_are_refused_on_a_resume(images, tmp_path, capsys, monkeypatch):
    from pe_beam.engine import counting

    with monkeypatch.context() as patch:
        patch.setattr(counting, "commit_histogram", lambda run, t: 1 // 0)
        assert _run(images, tmp_path) == 1
    changed = min((tmp_path / "images/1").iterdir())
    changed.write_bytes(encode_png(np.zeros((16, 16), dtype=np.uint8)))
    capsys.readouterr()
    assert _run(images, tmp_path) == 2
    assert "private data differ" in capsys.readouterr().err
    changed.unlink()
    assert _run(images, tmp_path) == 2


def test_embeddings_that_are_not_finite_are_rejects(images, tmp_path, capsys, monkeypatch):
    from pe_beam.modalities.image.pixels import Pixels

    real = Pixels.embed

    def broken(self, records):
        found = real(self, records)
        found.vectors[0, 0] = np.nan
        return found

    monkeypatch.setattr(Pixels, "embed", broken)
    images["data"]["max_rejects"] = 0
    _refused(images, tmp_path, capsys, "embedding that is not finite")


@pytest.mark.parametrize(
    ("key", "value"), [("epsilon", 0), ("epsilon", -1), ("epsilon", "nan"), ("delta", 1), ("delta", 0)]
)
def test_impossible_budgets(images, tmp_path, capsys, key, value):
    images["privacy"][key] = value
    _refused(images, tmp_path, capsys, f"privacy.{key}" if key == "delta" else "epsilon")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [0, -3, "nan", "inf", 2.5, "many", True])
def test_impossible_numbers_of_samples(images, tmp_path, capsys, value):
    images["evolution"]["samples"] = value
    _refused(images, tmp_path, capsys, "evolution.samples")


def test_a_file_that_vanishes_while_it_is_read(images, tmp_path, capsys, monkeypatch):
    from pe_beam.engine import ingest

    real = ingest.list_pieces

    def listed_then_gone(run, found):
        pieces = real(run, found)
        min((tmp_path / "images/1").iterdir()).unlink()
        return pieces

    monkeypatch.setattr(ingest, "list_pieces", listed_then_gone)
    _refused(images, tmp_path, capsys, "data.path: a file that was listed is gone", "is in private/rejects/file.jsonl")


def test_a_link_that_leads_nowhere_is_named_in_private_rejects_alone(images, tmp_path, capsys):
    """As git-annex and DVC leave them where a file has not been fetched."""
    link = tmp_path / "images/1/secretname-link.png"
    link.symlink_to("nowhere")
    _refused(images, tmp_path, capsys, "data.path: a link there leads to no file", "is in private/rejects/file.jsonl")
    told = json.loads((tmp_path / "run/private/rejects/file.jsonl").read_text())
    assert told["where"] == "1/secretname-link.png"
    link.unlink()
    assert _run(images, tmp_path) == 0
    assert not (tmp_path / "run/private/rejects/file.jsonl").exists()


def test_an_interrupt_is_said_in_one_line(images, tmp_path, capsys, monkeypatch):
    from pe_beam.driver import loop as driver

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_iteration", interrupted)
    assert _run(images, tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "pe-beam: interrupted; the same command goes on from here"


def test_a_typo_suggests_the_nearest_key(images, tmp_path, capsys):
    images["evolution"]["iteratons"] = 3
    _refused(images, tmp_path, capsys, "did you mean 'iterations'")


def test_a_run_directory_that_is_a_file(images, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert _run(images, tmp_path) == 1
    assert "run directory" in capsys.readouterr().err


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own: 200 kB of memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_directory_that_cannot_be_written(images, tmp_path, capsys, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(images))
    assert main(["run", str(path), "--run-dir", str(disk / "run")]) == 1
    assert "cannot be written to; check its owner and rights" in capsys.readouterr().err


def test_a_full_disk_is_said_and_survived(images, tmp_path, disk):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(images))
    command = ["run", str(path), "--run-dir", str(disk / "run")]
    first = run_command(*command)
    assert first.returncode == 1
    assert "no space is left" in first.stderr
    assert "Traceback" not in first.stderr
    subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
    second = run_command(*command)
    assert second.returncode == 0, second.stderr


def test_clients_votes_are_bounded_over_labels_and_bundles(small, tmp_path):
    """With one client more, the committed counts move by at most 2^b in norm, whatever its records."""
    from pe_beam.engine.run import open_run

    rng = np.random.default_rng(0)
    pictures = [encode_png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(400)]
    clients = [f"c{i % 7}" for i in range(400)]
    table = pa.table({"image": pictures, "label": [str(i % 10) for i in range(400)], "client": clients})
    counts = []
    for name, rows in (("all", table), ("one-less", table.filter(pc.not_equal(table["client"], "c3")))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data").mkdir()
        for part in range(3):
            pq.write_table(rows.slice(part * 150, 150), folder / f"data/{part}.parquet")
        small["data"] = {"source": "parquet", "path": str(folder / "data"), "labels": [str(i) for i in range(10)]}
        small["privacy"] |= {"unit": "client"}
        small["evolution"]["iterations"] = 1
        assert _run(small, folder) == 0
        run = open_run(folder / "run")
        counts.append(pq.read_table(folder / "run" / counting.counts_name(1))["count"].to_numpy())
    change = (counts[0] - counts[1]).astype(object)
    assert 0 < (change**2).sum() <= 4 ** grid_bits(run, 1)
