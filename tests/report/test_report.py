"""The report of a run: from the release alone, the same bytes, nothing private, nothing that breaks a resume."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

from pe_beam import registry
from pe_beam.cli.main import main
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.options import Options
from pe_beam.driver.export import export
from pe_beam.driver.loop import evolve
from pe_beam.driver.public import WITHHELD, public_recipe
from pe_beam.driver.purge import purge
from pe_beam.driver.reporting import report
from pe_beam.engine.run import open_run
from pe_beam.errors import InputError, StorageError
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png
from pe_beam.recipe.loading import parse_recipe
from pe_beam.report.build import build, history_of
from pe_beam.report.lineage import Lineage, evenly
from pe_beam.storage.local import LocalStore
from tests.report.releases import write_release
from tests.report.words import HOSTILE, WORDS, Words, texts
from tests.whole_runs import copied, release_digests

pytestmark = pytest.mark.reported


def test_it_is_built_from_a_copy_of_the_release_to_the_same_bytes(digits, tmp_path):
    shutil.copytree(digits / "release", tmp_path / "elsewhere")
    made = build(history_of(tmp_path / "elsewhere"), MODALITY)
    assert made == (digits / "release/report.html").read_bytes()
    assert len(made) < 3_000_000


def test_the_command_draws_it_again_to_the_same_bytes(digits, tmp_path, capsys):
    shutil.copytree(digits, tmp_path / "run")
    before = release_digests(tmp_path / "run")
    for name in ("report.html", "recipe.json"):
        (tmp_path / "run/release" / name).unlink()
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run/release/report.html")
    assert release_digests(tmp_path / "run") == before
    assert main(["purge", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    assert release_digests(tmp_path / "run") == before


def test_it_says_what_has_to_be_said(digits):
    text = (digits / "release/report.html").read_text(encoding="utf-8")
    record = json.loads((digits / "release/privacy.json").read_text())
    assert record["statement"] in text
    for words in ("What it does not cover", "A secret that was handed in.", "add-or-remove-one", "The same as a table"):
        assert words in text
    for t in (1, 2):
        noisy = pq.read_table(digits / f"release/iteration={t:04d}/histogram")["noisy_votes"].to_numpy()
        assert f"{noisy.sum():,.1f}".removesuffix(".0").replace("-", "−") in text
    assert "NOT PRIVATE" not in text


def test_nothing_of_the_holder_is_in_it(small, tmp_path):
    rng = np.random.default_rng(5)
    pictures = [encode_png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(120)]
    folder = tmp_path / "hospital-north"
    folder.mkdir()
    table = pa.table({"scan_of_patient": pictures, "diagnosis_code": [str(i % 10) for i in range(120)]})
    pq.write_table(table, folder / "patients.parquet")
    small["data"] |= {
        "source": "parquet",
        "path": str(folder / "patients.parquet"),
        "columns": {"image": "scan_of_patient", "label": "diagnosis_code"},
        "holdout": str(folder / "held-out.parquet"),
    }
    small["execution"] = {"beam_args": ["--temp_location=/mnt/secret-bucket"]}
    evolve(parse_recipe(small), tmp_path / "run")
    forbidden = ["hospital", "patient", "diagnosis", "held-out", "secret-bucket", "beam_args", "execution:"]
    assert "columns" not in json.loads((tmp_path / "run/release/recipe.json").read_text())["data"]
    for name in ("report.html", "recipe.json"):
        text = (tmp_path / "run/release" / name).read_text(encoding="utf-8")
        assert not [word for word in [*forbidden, str(tmp_path), "keep_secret"] if word in text], name
        assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text), name


class _Options(Options):
    model: str = Field("acme/base-v2", json_schema_extra={"public": True})
    codebook: str = Field("plain", json_schema_extra={"public": False})
    fonts: str = Field("matplotlib", json_schema_extra={"public": ["matplotlib"]})
    weights: str = "models/mine"
    endpoint: str = "inference"
    api_key_env: str = "ACME_KEY"
    prompt: str = "Write about cats and/or dogs"
    example: str = "see /home/ann/notes.txt"
    share: str = r"\\server\scans"
    nested: dict[str, list[str]] = Field(default_factory=lambda: {"s3://bucket/x": ["C:\\data", "fine"]})
    temperature: float = 0.5
    kind: Literal["fast", "slow"] = "fast"
    said: str = Field("a/b and c", json_schema_extra={"public": True})
    hub: str = Field("acme/base-v2", json_schema_extra={"public": "name"})
    local: str = Field("/models/mine", json_schema_extra={"public": "name"})


def test_texts_among_options_are_withheld_unless_they_are_public(small, monkeypatch):
    real = registry.find
    part = type("Part", (real("generators", "text-render", key=""),), {"Options": _Options})

    def find(kind, name, **told):
        return part if kind == "generators" else real(kind, name, **told)

    monkeypatch.setattr(registry, "find", find)
    small["generator"] = {"name": "text-render", "fonts": "my-fonts"}
    recipe = parse_recipe(small)
    shown = public_recipe(recipe)["generator"]
    assert shown == {
        "name": "text-render",
        "model": "acme/base-v2",
        "codebook": WITHHELD,
        "fonts": WITHHELD,
        "weights": WITHHELD,
        "endpoint": WITHHELD,
        "api_key_env": WITHHELD,
        "prompt": WITHHELD,
        "example": WITHHELD,
        "share": WITHHELD,
        "nested": {f"{WITHHELD} 0": [WITHHELD, WITHHELD]},
        "kind": "fast",
        "said": "a/b and c",
        "hub": "acme/base-v2",
        "local": WITHHELD,
        "temperature": 0.5,
    }


def test_without_noise_it_is_marked_all_over(small, runs):
    small["privacy"]["epsilon"] = "inf"
    release = runs.finished(small) / "release-NOT-PRIVATE"
    text = (release / "report.html").read_text(encoding="utf-8")
    assert "<title>NOT PRIVATE: small</title>" in text
    assert text.count("NOT PRIVATE") >= 5
    assert "What is promised" not in text
    assert "The best guess" not in text
    assert "NOT PRIVATE" in json.loads((release / "recipe.json").read_text())["notice"]


def test_a_run_that_goes_on_is_reported_in_work_and_resumes_to_the_same_release(
    digits, small, runs, tmp_path, secret_file, capsys
):
    copied(runs.half(small), tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 0
    where = Path(capsys.readouterr().out.strip())
    text = where.read_text(encoding="utf-8")
    assert where == tmp_path / "run/work/report-unfinished.html"
    assert "UNFINISHED" in text
    assert "1 of 2" in text
    assert "over all of its 2 noisy histograms" in text  # the second is paid for, though it is not there
    assert "This is what is spent so far" in text
    assert not (tmp_path / "run/release/report.html").exists()
    evolve(parse_recipe(small), tmp_path / "run", secret_file=secret_file)
    assert release_digests(tmp_path / "run") == release_digests(digits)


def _changed(digits, tmp_path, name, change):
    """A copy of the run in which one file was changed; its report must not be drawn again, nor lost."""
    run = tmp_path / "changed"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(digits, run)
    change(run / name)
    before = (run / "release/report.html").read_bytes()
    assert main(["report", str(run)]) == 2
    assert (run / "release/report.html").read_bytes() == before


def _says(**more):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return change


def _half_the_epsilon(path):
    path.write_text(path.read_text().replace("epsilon: 1.0", "epsilon: 0.5"))


@pytest.mark.parametrize("body", [None, b"", b"{}", b"[]", b"\xff", b"PAR1"])
@pytest.mark.parametrize(
    "name",
    [
        "iteration=0001/population/part-00000.parquet",
        "iteration=0002/histogram/part-00000.parquet",
        "iteration=0001/manifest.json",
        "iteration=0002/manifest.json",
        "samples.parquet",
        "privacy.json",
    ],
)
def test_a_release_that_lost_a_file_is_named_and_its_report_kept(digits, tmp_path, capsys, name, body):
    if name == "privacy.json" and body is None:
        return  # without it the run is not complete
    _changed(digits, tmp_path, f"release/{name}", Path.unlink if body is None else lambda path: path.write_bytes(body))
    said = capsys.readouterr().err
    assert said.startswith("pe-beam: ") and "internal error" not in said


def test_a_disk_that_takes_no_report_is_no_damaged_release(digits, tmp_path, capsys, monkeypatch):
    def full(*given: object, **more: object) -> None:
        raise StorageError("run directory: no space is left on its disk")

    shutil.copytree(digits, tmp_path / "run")
    monkeypatch.setattr(LocalStore, "commit", full)
    assert main(["report", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "pe-beam: run directory: no space is left on its disk\n"


def test_a_release_that_was_changed_is_not_reported(digits, tmp_path, capsys):
    one, two = (f"iteration={t:04d}/population/part-00000.parquet" for t in (1, 2))
    _changed(digits, tmp_path, f"release/{two}", lambda path: shutil.copy(digits / "release" / one, path))
    assert f"release/{two}: not what this run has made" in capsys.readouterr().err
    for wrong in ({"epsilon": 0.01}, {"spent_epsilon": 0.01}, {"noise_multiplier": [99.0, 99.0]}, {"iterations": 1}):
        _changed(digits, tmp_path, "release/privacy.json", _says(**wrong))
        assert "release/privacy.json: not what this run has made" in capsys.readouterr().err
    _changed(digits, tmp_path, "recipe.yaml", _half_the_epsilon)
    assert "not what this run has made" in capsys.readouterr().err


def test_what_a_complete_release_has_lost_is_made_again(digits, small, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    for name in ("samples.parquet", "samples.png", "recipe.json", "report.html"):
        (run / "release" / name).unlink()
    evolve(parse_recipe(small), run)
    for name in ("samples.parquet", "samples.png", "recipe.json", "report.html"):
        assert (run / "release" / name).read_bytes() == (digits / "release" / name).read_bytes()


def test_no_file_and_no_folder_of_a_release_has_a_time(digits):
    times = {path.stat().st_mtime for path in [digits / "release", *(digits / "release").rglob("*")]}
    assert times == {315532800.0}


def test_where_there_is_nothing_yet_it_says_so(small, tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        report(tmp_path)


def test_a_copy_of_a_release_is_told_what_it_is(digits, tmp_path):
    with pytest.raises(InputError, match=r"a release, not the run directory .*export DIR --as"):
        export(str(digits / "release"), tmp_path / "a.csv")
    with pytest.raises(InputError, match="a release, not the run directory"):
        purge(str(digits / "release"))


@pytest.mark.parametrize(
    "changes",
    [
        {"evolution.keep_parents": True, "evolution.selection": "rank", "data.labels": None},
        {"evolution.final": "selected", "evolution.lookahead": 1, "evolution.threshold": "auto"},
        {"privacy.label_counts": {"budget": 0.2}, "evolution.smoothing": 0.5, "data.expected_records": None},
        {"evolution.threshold": "100 sigma", "privacy.adjacency": "replace-one", "evolution.votes_per_record": 3},
    ],
)
def test_the_other_ways_to_evolve_are_reported(small, tmp_path, changes):
    for key, value in changes.items():
        section, name = key.split(".")
        small[section][name] = value
    if small["data"]["labels"] is None:
        small["generator"]["texts"] = {"": "0"}
    evolve(parse_recipe(small), tmp_path / "run")
    text = (tmp_path / "run/release/report.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"base64,[^)]*", "", text).lower().split()
    assert "Population 0" in text


def test_noise_is_that_of_the_plan_where_a_record_cannot_cast_all_its_votes(small, tmp_path):
    small["data"] |= {"labels": None, "holdout": None}
    small["generator"]["texts"] = {"": "0"}
    small["evolution"] |= {"votes_per_record": 50, "samples": 15, "population": 15, "iterations": 1}
    evolve(parse_recipe(small), tmp_path / "run")
    run = open_run(tmp_path / "run")
    history = history_of(run.store.at(run.layout.release))
    assert history.sigma(1) == pytest.approx(run.plan.schedule.sigmas[0])


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [({"privacy.sampling_rate": 0.25}, 100), ({"evolution.votes_per_record": 50}, 15 * 400)],
)
def test_votes_are_planned_of_who_votes_and_on_as_many_candidates_as_there_are(small, tmp_path, changes, wanted):
    small["data"] |= {"labels": None, "holdout": None, "expected_records": 400}
    small["generator"]["texts"] = {"": "0"}
    small["evolution"] |= {"samples": 15, "population": 15, "iterations": 1}
    for key, value in changes.items():
        section, name = key.split(".")
        small[section][name] = value
    evolve(parse_recipe(small), tmp_path / "run")
    text = (tmp_path / "run/release/report.html").read_text(encoding="utf-8")
    assert f"{wanted:,} votes were planned" in text


@pytest.mark.parametrize("view", [Words, None])
def test_another_modality_and_hostile_labels(small, tmp_path, view):
    small["data"]["labels"] = HOSTILE
    modality = Modality(name="words", payload=WORDS.payload, view=view)
    history = write_release(tmp_path / "release", small, modality, texts)
    text = build(history, modality).decode()
    assert "<img" not in text
    assert "onerror=alert(1)&gt;" in text
    assert text.count("</script>") == 2
    assert ("At most" in text) == (view is not None)
    assert build(history, modality).decode() == text


def test_a_hundred_thousand_samples_stay_below_ten_megabytes(small, tmp_path):
    """Coloured noise of 96 x 96 is what no codec makes small."""
    small["evolution"] |= {"samples": 100_000, "iterations": 3}
    rng = np.random.default_rng(0)
    noise = [encode_png(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(60)]
    tiny = [encode_png(rng.integers(0, 255, (4, 4), dtype=np.uint8)) for _ in range(5000)]

    def pictures(rows, rng):
        picked = rng.integers(0, len(tiny), rows)
        return {
            "image": [noise[i % 60] if i % 3 == 0 else tiny[i] for i in picked]
            if rows < 1000
            else [tiny[i] for i in picked]
        }

    history = write_release(tmp_path / "release", small, MODALITY, pictures)
    assert len(build(history, MODALITY)) < 10_000_000


@pytest.mark.parametrize(("count", "most"), [(1, 1), (5, 5), (100, 7), (7, 100), (2, 1)])
def test_even_steps(count, most):
    found = evenly(count, most)
    assert found == sorted(set(found))
    assert len(found) == min(count, most)
    assert found[-1] == count - 1
    assert most == 1 or found[0] == 0


def test_lineage_is_what_the_populations_say(digits):
    lineage = Lineage(history_of(digits / "release"), 24)
    for t, row in lineage.nodes:
        if t == 0:
            continue
        child = pq.read_table(digits / f"release/iteration={t:04d}/population").slice(row, 1).to_pylist()[0]
        at, above = lineage.ancestors(t, row)[-2]
        parent = pq.read_table(digits / f"release/iteration={at:04d}/population").slice(above, 1).to_pylist()[0]
        assert child["parent_id"] == parent["candidate_id"]
        assert child["label"] == parent["label"]
        assert (t - 1, above) in lineage.nodes
    for t in (0, 1):
        assert lineage.generations[t].children.sum() == 40
