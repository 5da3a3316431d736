"""Where records lie, as far as it matters which machine looks: on a disk, on each worker, or elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pe_beam.driver.jobs import new_job, seen_here
from pe_beam.driver.resume import pin_recipe
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import DataError, EmptyInputError, InputError, MissingDataError
from pe_beam.evaluation.setting import Setting
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import path_on_disk, private_source
from pe_beam.storage import open_store

PEOPLE: dict[str, Any] = {
    "name": "people",
    "data": {
        "source": "csv",
        "path": "people.csv",
        "holdout": "others.csv",
        "schema": {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}},
    },
    "modality": "tabular",
    "generator": {"name": "tabular"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 1, "samples": 20},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}


def recipe(**data: Any) -> Any:
    return parse_recipe({**PEOPLE, "data": {**PEOPLE["data"], **data}})


def run_of(tmp_path: Path, **data: Any) -> Run:
    store = open_store(tmp_path / "run")
    with store.lock():
        pin_recipe(recipe(**data), store)
    return open_run(store.uri)


@pytest.mark.parametrize(
    ("source", "path", "found"),
    [
        ("csv", "people.csv", "people.csv"),
        ("parquet", "/data/people#train", "/data/people#train"),
        ("csv", "gs://bucket/people.csv", None),
        ("csv", "file:///data/people.csv", None),
        ("python", "package.module:records", None),
        ("iceberg", "support.tickets", None),
        ("iceberg", "tickets/metadata/00041-8d2f.metadata.json", "tickets/metadata/00041-8d2f.metadata.json"),
        ("delta", "tickets", "tickets"),
    ],
)
def test_what_is_on_a_disk(source: str, path: str, found: str | None) -> None:
    options = {"iceberg": {"options": {"snapshot": 1, "catalog": "prod"}}, "delta": {"options": {"version": 1}}}
    assert path_on_disk(recipe(source=source, path=path, **options.get(source, {}))) == found


def test_a_file_url_is_read_as_its_path(tmp_path: Path) -> None:
    (tmp_path / "two people.csv").write_text("age\n4\n5\n")
    plain = private_source(recipe(path=str(tmp_path / "two people.csv")))
    url = private_source(recipe(path=f"file://{tmp_path}/two%20people.csv"))
    assert [url.digest(piece) for piece in url.pieces()] == [plain.digest(piece) for piece in plain.pieces()]


def test_a_job_elsewhere_is_refused_for_its_records_and_an_evaluation_for_its_own(tmp_path: Path) -> None:
    run, flags = run_of(tmp_path), ["--runner=DataflowRunner"]
    with pytest.raises(InputError, match=r"^data\.path: people\.csv is on a disk"):
        new_job(run, flags)
    with pytest.raises(InputError, match=r"^data\.path: people\.csv is on a disk"):
        new_job(run, flags, leaves=True)
    for against, key in ((None, r"data\.holdout: others\.csv"), ("/x/y.csv", "--against: /x/y.csv")):
        with pytest.raises(InputError, match=f"^{key} is on a disk"):
            new_job(run, flags, places=Setting(against=against, populations=(0, 1)).on_disk(run))
    with pytest.raises(InputError, match=r"--run-dir .*: Dataflow's workers do not see it"):  # which is what comes next
        new_job(run, flags, places=Setting(against="gs://bucket/y.csv", populations=(0, 1)).on_disk(run))


@pytest.mark.parametrize(
    ("path", "error", "here", "told"),
    [
        ("people.csv", MissingDataError("x"), False, True),
        ("people#train", MissingDataError("x"), False, True),
        ("people.csv", MissingDataError("x"), True, False),
        ("nobody.csv", MissingDataError("x"), False, False),
        ("*.csv", EmptyInputError("x"), False, True),
        ("people", EmptyInputError("x"), False, False),
        ("people.csv", DataError("no column"), False, False),
        ("gs://bucket/people.csv", EmptyInputError("x"), False, False),
    ],
)
def test_records_that_this_machine_alone_sees_are_told(
    path: str, error: DataError, here: bool, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is another place on a worker of Flink: it looked as if the file were not there at all."""
    monkeypatch.chdir(tmp_path)
    Path("people").mkdir()
    Path("people.csv").write_text("age\n4\n")
    job: Any = SimpleNamespace(on_this_machine=here)
    said = seen_here(run_of(tmp_path, path=path), job, error)
    whole = str(tmp_path / path)
    assert said.startswith(f"; this machine has {whole}, and workers do not see it: ") == told
    assert bool(said) == told
