"""Releases are read as they were written; what is damaged is refused by name, what is unfinished is not."""

from __future__ import annotations

import datetime
import io
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pe_beam
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.releases import frames
from pe_beam.releases.reading import open_release
from tests.whole_runs import copied

FILES = [f"iteration={t:04d}/{name}" for t in range(3) for name in ("manifest.json", "population/part-00000.parquet")]
FILES += [f"iteration={t:04d}/histogram/part-00000.parquet" for t in (1, 2)]


@pytest.fixture
def whole(runs, small):
    return runs.finished(small)


def test_it_gives_what_is_in_the_files(whole):
    release = open_release(whole)
    top = whole / "release"
    assert release.iterations == [0, 1, 2] and release.iteration == 2 and release.complete and release.private
    assert release.samples().equals(pq.read_table(top / "samples.parquet"))
    for t in (0, 1, 2):
        folder = top / f"iteration={t:04d}"
        assert release.population(t).equals(pq.read_table(folder / "population/part-00000.parquet", partitioning=None))
        assert release.manifest(t) == json.loads((folder / "manifest.json").read_text())
    assert (
        release.histogram(2)["noisy_votes"].to_pylist()
        == pq.read_table(
            top / "iteration=0002/histogram/part-00000.parquet", columns=["noisy_votes"], partitioning=None
        )["noisy_votes"].to_pylist()
    )
    assert release.population(1, ["label"]).column_names == ["label"]
    assert release.privacy == json.loads((top / "privacy.json").read_text())
    assert release.records().column_names == ["label", "image"]
    assert [picture.size for picture in release.images(0)] == [(16, 16)] * 40
    assert Path(release.report()) == top / "report.html"
    release.verify()


def test_private_files_are_not_needed_nor_opened(whole, tmp_path):
    """The release folder alone, with a parent that may not even be looked into."""
    shutil.copytree(whole / "release", tmp_path / "sent")
    assert open_release(tmp_path / "sent").samples().equals(open_release(whole).samples())
    run = copied(whole, tmp_path / "run")
    for name in ("private", "work"):
        shutil.rmtree(run / name, ignore_errors=True)
    (run / "recipe.yaml").unlink()
    (run / "ledger.jsonl").unlink()
    open_release(run).verify()


@pytest.mark.parametrize("scheme", ["memory://", "file"])
def test_a_store_gives_the_same(whole, tmp_path, scheme):
    store = pe_beam.open_store("memory://a-release" if scheme == "memory://" else tmp_path / "there")
    for path in sorted((whole / "release").rglob("*")):
        if path.is_file():
            store.commit(f"release/{path.relative_to(whole / 'release')}", path.read_bytes())
    release = open_release(store.uri)
    release.verify()
    assert release.samples().equals(open_release(whole).samples())


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_damage_passes(whole, tmp_path_factory, data):
    """Any byte of any file that a manifest lists, changed, cut off or gone."""
    top = copied(whole / "release", tmp_path_factory.mktemp("damaged") / "release")
    path = top / data.draw(st.sampled_from([name for name in FILES if name.endswith(".parquet")]))
    how = data.draw(st.sampled_from(["flip", "cut", "gone", "empty", "longer"]))
    old = path.read_bytes()
    at = data.draw(st.integers(0, len(old) - 1))
    if how == "gone":
        path.unlink()
    else:
        flipped = old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :]
        path.write_bytes({"flip": flipped, "cut": old[:at], "empty": b"", "longer": old + b"\0"}[how])
    with pytest.raises(InputError, match=r"part-00000\.parquet: (damaged|missing)") as error:
        open_release(top).verify()
    assert str(path.relative_to(top)) in str(error.value)


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [
        ("iteration=0001/manifest.json", b"{"),
        ("iteration=0001/manifest.json", b"[]"),
        ("iteration=0001/manifest.json", b"\xff"),
        ("iteration=0001/manifest.json", b'{"version": 1, "files": {}, "candidates": {"0": "x"}}'),
        ("iteration=0001/manifest.json", b'{"version": 1, "files": {"a": 3}, "candidates": {}}'),
        ("iteration=0001/manifest.json", None),
        ("iteration=0002/manifest.json", None),
        ("samples.parquet", b"PAR1"),
        ("samples.parquet", None),
        ("privacy.json", b"{}"),
        ("privacy.json", b"[" * 100_000),
    ],
)
def test_what_is_damaged_is_named(whole, tmp_path, name, bytes_):
    top = copied(whole / "release", tmp_path / "release")
    if bytes_ is None:
        (top / name).unlink()
    else:
        (top / name).write_bytes(bytes_)
    with pytest.raises(InputError, match=f"{name}: (damaged|missing)"):
        open_release(top).verify()
    if "manifest" not in name or bytes_ is None:
        assert name in open_release(top)._repr_html_()  # a notebook says it as well


def test_samples_of_another_run_are_refused(whole, tmp_path):
    top = copied(whole / "release", tmp_path / "release")
    shutil.copy(top / "iteration=0001/population/part-00000.parquet", top / "samples.parquet")
    with pytest.raises(InputError, match=r"samples.parquet: damaged"):
        open_release(top).samples()


@pytest.mark.parametrize("name", ["../../outside.parquet", "/etc/hostname", "population/../../../x"])
def test_a_manifest_cannot_lead_out_of_the_release(whole, tmp_path, name):
    top = copied(whole / "release", tmp_path / "release")
    (tmp_path / "outside.parquet").write_bytes(b"private")
    manifest = json.loads((top / "iteration=0001/manifest.json").read_text())
    manifest["files"] = {f"population/{name}" if name.startswith("..") else name: {"sha256": "0" * 64}}
    (top / "iteration=0001/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json: damaged"):
        open_release(top).verify()


def test_a_newer_format_is_refused_in_one_sentence(whole, tmp_path):
    top = copied(whole / "release", tmp_path / "release")
    path = top / "iteration=0002/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match="format 1 is wanted"):
        open_release(top).samples()


def test_a_run_under_way_is_no_fault(runs, small, tmp_path):
    release = open_release(runs.half(small))
    assert release.iterations == [0, 1] and not release.complete
    assert release.privacy is None and release.recipe is None
    assert release.samples().equals(release.population(1))
    release.verify()
    assert "under way" in release._repr_html_()
    with pytest.raises(InputError, match="not there yet"):
        release.report()
    with pytest.raises(InputError, match="iteration 2: this release has no such iteration; allowed: 0 to 1"):
        release.population(2)
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(runs.half(small) / "recipe.yaml", begun)
    nothing = open_release(begun)
    assert nothing.iterations == [] and nothing.private
    assert "no population yet" in nothing._repr_html_()
    with pytest.raises(InputError, match="no population yet"):
        nothing.samples()


def test_no_release_is_said(tmp_path):
    with pytest.raises(InputError, match="no release; a run directory"):
        open_release(tmp_path)
    with pytest.raises(InputError, match="no release"):
        open_release(tmp_path / "not-there")
    assert not (tmp_path / "not-there").exists()


def test_arguments_are_named(whole):
    release = open_release(whole)
    with pytest.raises(InputError, match="histograms start with iteration 1"):
        release.histogram(0)
    for wrong in (-1, 3):
        with pytest.raises(InputError, match=f"iteration {wrong}: .*allowed: 0 to 2"):
            release.population(wrong)
    with pytest.raises(InputError, match=r"columns: 'x' is not in .*allowed: candidate_id, parent_id"):
        release.population(1, ["x"])


def test_what_is_not_private_says_so(small, tmp_path):
    small["privacy"]["epsilon"] = "inf"
    small["evolution"]["iterations"] = 1
    seen = []
    run = pe_beam.evolve(
        parse_recipe(small),
        tmp_path / "run",
        progress=io.StringIO(),
        on_iteration=lambda release: seen.append((release.private, release._repr_html_())),
    )
    for release in (run.release, open_release(tmp_path / "run"), open_release(tmp_path / "run/release-NOT-PRIVATE")):
        assert not release.private and "NOT PRIVATE" in release._repr_html_()
    assert all(not private and "NOT PRIVATE" in html for private, html in seen) and len(seen) == 2
    shutil.copytree(tmp_path / "run/release-NOT-PRIVATE", tmp_path / "renamed")
    release = open_release(tmp_path / "renamed")
    assert not release.private and release.privacy["epsilon"] == math.inf
    (tmp_path / "renamed/privacy.json").write_text("{")
    assert "NOT PRIVATE" in release._repr_html_()


def test_frames(whole):
    pytest.importorskip("pandas", reason="pandas was NOT tested")
    frame = open_release(whole).to_pandas()
    assert list(frame.columns) == ["label", "image"] and len(frame) == 40
    assert np.array_equal(frame["label"].to_numpy(), open_release(whole).samples()["label"].to_pylist())


def test_a_frame_of_a_table_has_dates_and_whole_numbers():
    pandas = pytest.importorskip("pandas", reason="pandas was NOT tested")
    days, large = [datetime.date(1600, 1, 2), None], [2**53 + 1, None]
    frame = frames.to_pandas(pa.table({"day": days, "large": large, "count": [1, 2], "text": ["a", None]}))
    assert list(frame.columns) == ["day", "large", "count", "text"]
    assert frame["day"].dt.year[0] == 1600 and pandas.isna(frame["day"][1])
    assert frame["large"][0] == 2**53 + 1 and frame["large"].isna().tolist() == [False, True]
    assert frame["count"].dtype == np.int64


def test_a_missing_pandas_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="'pandas', which is not installed"):
        frames.to_pandas(pa.table({"a": [1]}))
