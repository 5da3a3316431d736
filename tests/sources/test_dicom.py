"""Source `dicom`: labels and patients of the headers, and files without them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pe_beam.cli.main import main
from pe_beam.contracts import source as base
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from tests.modalities.image.test_dicom import made
from tests.sources.test_listed import kinds
from tests.sources.test_sources import joined, opened, read, refused


def scans(folder: Path, *heads: dict[str, object]) -> Path:
    rng = np.random.default_rng(0)
    for i, head in enumerate(heads):
        place = folder / f"series {i % 2}" / f"{i:04d}"  # as a PACS writes them: no ending
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(made(rng.integers(0, 4096, (8, 8)).astype(np.uint16), **head))
    return folder


def test_labels_and_clients_are_read_off_the_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_ROWS", 2)
    heads = [{"PatientID": f"P{i // 2}", "Modality": ("CT", "MR")[i % 2], "Laterality": "L"} for i in range(6)]
    scans(tmp_path, *heads)
    batches = read(opened("dicom", tmp_path, columns={"label": "Modality"}, client=True, labels=["CT", "MR"]))
    assert joined(batches, "labels") == ["CT"] * 3 + ["MR"] * 3
    assert joined(batches, "clients") == ["P0", "P1", "P2"] * 2
    assert joined(batches, "rows")[0] == "series 0/0000:0" and not kinds(batches)
    several = read(
        opened("dicom", tmp_path, columns={"label": ["Modality", "Laterality"], "client": "Modality"}, client=True)
    )
    assert set(joined(several, "labels")) == {"CT | L", "MR | L"} and set(joined(several, "clients")) == {"CT", "MR"}
    plain = read(opened("dicom", tmp_path, labelled=False))
    assert joined(plain, "labels") == joined(plain, "clients") == [None] * 6
    assert joined(plain, "image") == joined(batches, "image")


def test_what_a_header_does_not_say_is_missing_and_what_is_no_dicom_a_reject(tmp_path):
    scans(tmp_path, {"PatientID": "", "Modality": "CT"}, {"PatientID": "P1"}, {"Modality": ["CT", "SR"]})
    (tmp_path / "notes.bin").write_bytes(b"zzsecret")
    (tmp_path / "damaged").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0zz")
    batches = read(opened("dicom", tmp_path, columns={"label": "Modality"}, client=True))
    found = dict(
        zip(
            joined(batches, "rows"),
            zip(joined(batches, "labels"), joined(batches, "clients"), strict=True),
            strict=True,
        )
    )
    assert found["series 0/0000:0"] == ("CT", None)
    assert found["series 1/0001:0"] == (None, "P1")
    assert found["series 0/0002:0"] == ("CT\\SR", "7")
    assert {"file that is not DICOM"} <= set(kinds(batches)) and len(kinds(batches)) == 2


def test_a_column_is_a_keyword_of_the_standard(tmp_path):
    for columns, told in (
        ({"label": "diagnosis"}, "data.columns.label: 'diagnosis' is no keyword of DICOM's dictionary"),
        ({"label": "Modality", "client": "PixelData"}, "data.columns.client: 'PixelData' is no text or number"),
        ({"image": "Modality", "label": "Modality"}, "has two roles"),
        ({"picture": "x"}, "data.columns: unknown picture"),
    ):
        refused(lambda columns=columns: opened("dicom", tmp_path, columns=columns, client=True), RecipeError, told)
    refused(opened("dicom", tmp_path, labelled=False).pieces, EmptyInputError, "data.path", "no image files")
    refused(opened("dicom", tmp_path / "nowhere", labelled=False).pieces, DataError, "data.path", "no folder")


def test_a_digest_follows_the_files(tmp_path):
    scans(tmp_path, {"Modality": "CT"}, {"Modality": "MR"})
    source = opened("dicom", tmp_path, labelled=False)
    (piece,) = source.pieces()
    before = source.digest(piece)
    scans(tmp_path, {"Modality": "MR"}, {"Modality": "MR"})
    assert source.digest(piece) != before


def test_a_run_votes_by_patient_from_files_of_a_scanner(tmp_path, capsys):
    heads = [{"PatientID": f"secret-{i // 3}", "BodyPartExamined": ("CHEST", "HEAD")[i // 3 % 2]} for i in range(90)]
    scans(tmp_path / "scans", *heads)
    recipe = {
        "name": "scans",
        "modality": "image",
        "data": {
            "source": "dicom",
            "path": str(tmp_path / "scans"),
            "columns": {"label": "BodyPartExamined"},
            "labels": ["CHEST", "HEAD"],
            "prepare": {"size": 8, "policy": "crop", "levels": [0, 4095]},
        },
        "generator": {"name": "text-render"},
        "embedder": {"name": "pixels", "size": 8},
        "evolution": {"iterations": 1, "samples": 8},
        "privacy": {"epsilon": 8, "delta": 1e-3, "unit": "client"},
    }
    (tmp_path / "scans.yaml").write_text(json.dumps(recipe))
    assert main(["run", str(tmp_path / "scans.yaml"), "--run-dir", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    told = "".join(capsys.readouterr())
    assert "secret" not in told
    for file in (tmp_path / "run/release").rglob("*"):
        assert not file.is_file() or b"secret-" not in file.read_bytes()
