"""An evaluation that is waited for, interrupted and run again: steps are told, embeddings kept, figures the same."""

from __future__ import annotations

import copy
import io
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.evaluation import kept, measure
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.evaluation.figures import shown
from pe_beam.evaluation.table import text_table
from pe_beam.modalities.image.pixels import Pixels
from pe_beam.recipe.loading import parse_recipe
from tests.evaluation.pictures import pictures, write_files
from tests.whole_runs import ROOT, SMALL


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    write_files(folder / "training", (40,), 10)
    write_files(folder / "held-out", (30, 20), 20)
    recipe = copy.deepcopy(SMALL)
    recipe["data"] = {"source": "parquet", "path": str(folder / "training"), "labels": ["0", "1", "2"]}
    recipe["data"]["holdout"] = str(folder / "held-out")
    recipe["evolution"] = {"iterations": 1, "samples": 30}
    evolve(parse_recipe(recipe), folder / "run")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that the embedder was asked for, call by call."""
    rows: list[int] = []
    own = Pixels.embed

    def embed(self: Pixels, records: Any) -> Any:
        rows.append(records.num_rows)
        return own(self, records)

    monkeypatch.setattr(Pixels, "embed", embed)
    return rows


def test_a_second_evaluation_embeds_nothing_and_finds_the_same(run: Path, embedded: list[int]) -> None:
    first = evaluate(run)
    assert sum(embedded) == 50 + 2 * 30  # held-out, and two populations; training records are frozen already
    embedded.clear()
    assert evaluate(run) == first
    assert embedded == []


def test_other_records_are_embedded_and_only_those(
    run: Path, finished: Path, embedded: list[int], tmp_path: Path
) -> None:
    first = evaluate(run)
    embedded.clear()
    write_files(tmp_path / "other", (30, 25), 20)  # the first file is the same
    other = evaluate(run, against=str(tmp_path / "other"))
    assert sum(embedded) == 25
    assert other["records"]["held_out"] == 55
    assert other["metrics"]["frechet_distance"] != first["metrics"]["frechet_distance"]
    assert evaluate(run) == first


def test_faults_of_held_out_records_are_kept_with_them(run: Path, tmp_path: Path, embedded: list[int]) -> None:
    table = pictures(12, 5)
    images = [*table["image"].to_pylist()[:10], b"no picture", None]
    (tmp_path / "bad").mkdir()
    pq.write_table(table.set_column(0, "image", [images]), tmp_path / "bad/x.parquet")
    first = evaluate(run, against=str(tmp_path / "bad"))
    assert first["records"]["held_out_unusable"] == 2
    embedded.clear()
    assert evaluate(run, against=str(tmp_path / "bad")) == first
    assert embedded == []


@pytest.mark.parametrize("damage", [b"PK\x03\x04 no archive", None])
def test_a_damaged_file_of_kept_embeddings_is_made_again(run: Path, embedded: list[int], damage: bytes | None) -> None:
    first = evaluate(run)
    for path in (run / kept.KEPT).iterdir():
        if damage is None:  # whole, and of another shape
            sink = io.BytesIO()
            np.savez(sink, vectors=np.zeros((1, 3), np.float32), rows=np.empty(0, np.int64), kinds=np.empty(0, np.str_))
            path.write_bytes(sink.getvalue())
        else:
            path.write_bytes(damage)
    embedded.clear()
    assert evaluate(run) == first
    assert sum(embedded) == 110


@pytest.mark.usefixtures("forked")
def test_an_evaluation_that_is_killed_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[int]) -> None:
    """Killed while the second population is measured: neither embeddings nor the first one's figures are made again."""
    code = f"""
import os
from pe_beam.evaluation import evaluate as driver, measure
from pe_beam.modalities.image.metrics import classifiers
from tests.evaluation.pictures import untrained
classifiers.small_cnn = untrained
own = measure._distances
count = 0
def distances(*arguments):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), 9)
    return own(*arguments)
measure._distances = distances
driver.evaluate({str(run)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    measured: list[str] = []
    own = measure._distances

    def distances(*arguments: Any) -> dict[str, float]:
        measured.append("once")
        return own(*arguments)

    monkeypatch.setattr(measure, "_distances", distances)
    found = evaluate(run)
    assert embedded == []
    assert len(measured) == 2  # of three
    shutil.rmtree(run / "private/evaluation")
    assert evaluate(run) == found
    assert not (run / "private/evaluation/work").exists()


def test_what_an_interrupted_evaluation_left_of_other_data_is_not_used(run: Path, tmp_path: Path) -> None:
    whole = evaluate(run)
    work = run / "private/evaluation/work/measured"
    work.mkdir(parents=True)
    for name in ("population-0000", "population-0001", "training"):
        (work / f"{name}.json").write_text('{"of": "other data", "figures": {}, "rows": 1, "notes": [], "series": []}')
    assert evaluate(run) == whole


# --- what is shown -------------------------------------------------------------------------------------------


def test_steps_are_told_in_plain_lines_without_a_count_or_a_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, own = io.StringIO(), measure.note_step

    def note(at: Any, step: str) -> None:
        """Steps are looked at now and then, so that a quick one may pass unseen: some wait until they were seen."""
        own(at, step)
        limit = time.monotonic() + 60
        while "distances" in step and step not in said.getvalue() and time.monotonic() < limit:
            time.sleep(0.02)

    monkeypatch.setattr(measure, "note_step", note)
    evaluate(run, progress=said)
    lines = said.getvalue().splitlines()
    assert lines[0] == "reading and embedding"
    assert any(line.startswith("measuring real records (3 of 3): ") for line in lines)
    assert any(line.endswith(" of 3): distances and classifiers") for line in lines)
    assert "wide resnet" not in said.getvalue(), "it was not asked for"
    assert not re.search(r"\d", re.sub(r"population \d|\d of \d", "", said.getvalue()))


def test_a_terminal_sees_the_share_that_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    own = kept.embedded

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)
        return own(*arguments)

    monkeypatch.setattr("pe_beam.evaluation.gather.embedded", slow)
    said = Terminal()
    evaluate(run, progress=said)
    assert re.search(r"reading and embedding +[1-9]\d%", said.getvalue())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.0, "0.0000"),
        (-0.0, "0.0000"),
        (1.23456, "1.2346"),
        (0.001, "0.0010"),
        (0.00099996, "0.001"),
        (0.00098765, "0.000988"),
        (-0.0000123456, "-0.0000123"),
        (3.2e-9, "3.2e-09"),
        (1234.5, "1234.5000"),
    ],
)
def test_small_figures_are_shown_with_digits_that_mean_something(value: float, wanted: str) -> None:
    assert shown(value) == wanted


@pytest.mark.reported
def test_terminal_page_and_json_show_small_figures(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(measure, "kernel_distance", lambda *_: (0.0000321, 0.0))
    found = evaluate(run)
    assert found["metrics"]["kernel_distance"] == 0.0000321
    assert re.search(r"kernel distance +0\.0000321 +0\.0000321", text_table(found))
    assert "0.0000321" in (run / "private/evaluation/evaluation.html").read_text()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert '"kernel_distance": 3.21e-05' in capsys.readouterr().out


def test_nothing_of_it_survives_a_purge(run: Path) -> None:
    evaluate(run)
    assert list((run / kept.KEPT).iterdir())
    assert main(["purge", str(run)]) == 0
    assert not (run / "private").exists()
