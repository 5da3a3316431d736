"""Writes samples in other formats, by the extension of the path, or copies a whole release without its times."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pe_beam.contracts.store import Folder
from pe_beam.driver.finalize import is_complete, samples_digest
from pe_beam.driver.reporting import verify_iteration, verify_release
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.populations import read_population
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.tables import read_bytes
from pe_beam.errors import InputError, StorageError
from pe_beam.names import JOINT
from pe_beam.releases.reading import Release, open_release
from pe_beam.sharing.share import share
from pe_beam.storage import open_store

_LONGEST = 200  # bytes of a folder's name; file systems allow 255
_NO_TIME = 315532800  # 1980, as in a local run directory


def export(run_dir: str, to: str | Path, *, iteration: int | None = None) -> list[Path]:
    """Writes a complete run's samples, or its population of an iteration, as Parquet, CSV, JSONL or an image folder.

    Images are base64 in CSV and JSONL. An image folder gets one PNG per sample, in one subfolder per label. Samples of
    a declared table lose the columns that pe_beam added and get the names of data.columns. Combined labels are split
    into their columns again. Samples of several rows each (`Modality.unfold`) are written row by row. Those of several
    tables become a file each: `NAME-TABLE.csv` for `NAME.csv`, or Parquet files in a folder.

    Args:
      run_dir: a complete run.
      to: a path that ends in .parquet, .csv or .jsonl, or a folder.
      iteration: 0 to T; None: the samples.

    Returns:
      What was written, `to` or a file for each table.

    Raises:
      InputError: the run is not complete, there is no such iteration, the extension is not known or does not fit, the
        folder is not empty, NOT-PRIVATE is missing in the name for a run that is not private, or what is to be written
        is not what its manifest lists.
      StorageError: the path cannot be written.
    """
    run = open_run(run_dir)
    if not is_complete(run):
        raise InputError(f"{run_dir}: this run is not complete yet; run it to its end first")
    last = run.recipe.evolution.iterations
    if iteration is not None and not 0 <= iteration <= last:
        raise InputError(f"--iteration {iteration}: 0 to {last} is wanted")
    tables = clean(run, _samples(run, iteration))
    path = Path(to)
    if not run.recipe.private and "NOT-PRIVATE" not in path.name:
        raise InputError(f"--to {to}: this run is NOT PRIVATE (epsilon = inf); a name with NOT-PRIVATE in it is wanted")
    if len(tables) > 1:
        made = {_beside(path, name): table for name, table in tables.items()}
        if path.suffix == "":
            _refuse_used(path)
    else:
        made = dict.fromkeys([path], *tables.values())
        if path.suffix == "" and "image" not in made[path].column_names:
            raise InputError(f"--to {to}: a folder is for images; .parquet, .csv or .jsonl is wanted")
    writers: dict[str, Any] = {".parquet": pq.write_table, ".csv": _csv, ".jsonl": _jsonl, "": _folder}
    if path.suffix not in writers:
        raise InputError(f"--to {to}: .parquet, .csv, .jsonl or a folder (no ending) is wanted")
    try:
        for file, table in made.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            writers[file.suffix](table, file)
    except OSError as error:
        raise StorageError(f"--to {to}: cannot be written ({error.strerror})") from error
    return list(made)


def export_as(
    run_dir: str | Path,
    to: str | Path,
    form: str,
    *,
    iteration: int | None = None,
    promise: Mapping[str, Any] | None = None,
) -> None:
    """Writes a complete release in another form (`pe_beam.sharing`): from a run directory, or from a released folder.

    A run directory's release is compared with its ledger and its recipe first. Nothing but the release is written.
    `promise` is that of the stream that the run is a window of, as `share` takes it.

    Raises:
      InputError: as `share`, or a file of the release is not what the run has made.
      StorageError: the path cannot be written.
    """
    release = open_release(run_dir)
    if release.complete and open_store(run_dir).exists("recipe.yaml"):
        verify_release(open_run(run_dir))
    else:
        release.verify()
    share(release, to, form, iteration=iteration, promise=promise)


def _samples(run: Run, iteration: int | None) -> pa.Table:
    """Returns the samples, or a population. What is damaged does not leave: it is compared with its manifest first."""
    last, name = run.recipe.evolution.iterations, f"{run.layout.release}/samples.parquet"
    verify_iteration(run, manifest_of(run, last if iteration is None else iteration))
    if iteration is not None:
        return read_population(run, iteration)
    if run.store.digest(name) != samples_digest(run):  # another Arrow may have joined several files to other bytes
        Release(Folder(run.store, run.layout.release)).samples()
    return read_bytes(run.store.read(name))


def _beside(path: Path, table: str) -> Path:
    """Returns the file of one of several tables.

    >>> str(_beside(Path("out/shop.csv"), "orders")), str(_beside(Path("out/shop"), "orders"))
    ('out/shop-orders.csv', 'out/shop/orders.parquet')
    """
    return path / f"{table}.parquet" if path.suffix == "" else path.with_name(f"{path.stem}-{table}{path.suffix}")


def _refuse_used(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--to {path}: an empty or new folder is wanted")


def export_release(run_dir: str, to: str | Path) -> None:
    """Copies a complete run's release to a new local folder: what its manifests list, and what belongs beside them.

    All files and folders get one fixed time, as in a local run directory. A bucket shows when each object was written,
    and so how long private stages took; a copy made here does not.

    Raises:
      InputError: the run is not complete, the folder is not empty, or NOT-PRIVATE is missing in the name for a run that
        is not private.
      StorageError: a released file is missing or not what its manifest says, or the folder cannot be written.
    """
    run = open_run(run_dir)
    if not is_complete(run):
        raise InputError(f"{run_dir}: this run is not complete yet; run it to its end first")
    target = Path(to)
    if not run.recipe.private and "NOT-PRIVATE" not in target.name:
        raise InputError(f"--to {to}: this run is NOT PRIVATE (epsilon = inf); a name with NOT-PRIVATE in it is wanted")
    _refuse_used(target)
    try:
        for name, digest in _released(run):
            data = run.store.read(f"{run.layout.release}/{name}")
            if digest is not None and hashlib.sha256(data).hexdigest() != digest:
                raise StorageError(f"{run.layout.release}/{name}: not what its manifest lists; restore it")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
        for path in [*target.rglob("*"), target]:
            os.utime(path, (_NO_TIME, _NO_TIME))
    except OSError as error:
        raise StorageError(f"--to {to}: cannot be written ({error.strerror})") from error


def _released(run: Run) -> Iterator[tuple[str, str | None]]:
    """Yields (name in the release, SHA-256 where a manifest lists it) of all files of a complete release."""
    for iteration in range(run.recipe.evolution.iterations + 1):
        folder = run.layout.public(iteration, "").removeprefix(f"{run.layout.release}/")
        yield f"{folder}manifest.json", None
        for name, listed in manifest_of(run, iteration)["files"].items():
            yield f"{folder}{name}", listed["sha256"]
    yield "samples.parquet", samples_digest(run)
    for name in ("samples.png",) if run.modality.preview is not None else ():
        yield name, None
    for name in ("recipe.json", "report.html", "privacy.json"):
        yield name, None


def clean(run: Run, samples: pa.Table) -> Mapping[str, pa.Table]:
    """Returns the tables of the input data, by name, with its columns. Samples of other modalities stay unchanged."""
    if run.modality.schema_model is None:
        return {"samples": samples}
    columns = run.recipe.data.columns
    unfold = run.modality.unfold
    made = {
        str(columns.get(name, name)) if unfold is None else name: samples[name] for name in run.modality.payload.names
    }
    if run.recipe.data.labels is not None:
        given = columns.get("label", "label")
        if isinstance(given, str):
            made[given] = samples["label"]
        else:
            parts = [label.split(JOINT) for label in samples["label"].to_pylist()]
            made |= {name: pa.array([part[i] for part in parts], pa.string()) for i, name in enumerate(given)}
    return {"samples": pa.table(made)} if unfold is None else unfold(pa.table(made), columns)


def _textual(samples: pa.Table) -> pa.Table:
    """Returns bytes as base64, and moments in whole seconds."""
    for index, field in enumerate(samples.schema):
        if pa.types.is_binary(field.type):
            texts = [None if x is None else base64.b64encode(x).decode() for x in samples[field.name].to_pylist()]
            samples = samples.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_timestamp(field.type):
            samples = samples.set_column(index, field.name, samples[field.name].cast(pa.timestamp("s")))
    return samples


def _csv(samples: pa.Table, path: Path) -> None:
    pyarrow.csv.write_csv(_textual(samples), path)


def _jsonl(samples: pa.Table, path: Path) -> None:
    samples = _textual(samples)
    for index, field in enumerate(samples.schema):
        if pa.types.is_temporal(field.type):
            samples = samples.set_column(index, field.name, samples[field.name].cast(pa.string()))
    with path.open("w", encoding="utf-8") as file:
        for row in samples.to_pylist():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _folder_name(label: str) -> str:
    """Returns the folder name of a label. It percent-encodes forbidden characters, path separators and a leading dot.

    A name that is too long for a file system is cut, and a digest of the whole name is appended.

    >>> [_folder_name(label) for label in ("cat", "a/b", "..", "", "50%")]
    ['cat', 'a%2Fb', '%2E.', '%', '50%25']
    """
    name = re.sub(r'[%/\\:*?"<>|\x00-\x1f]|^\.', lambda found: f"%{ord(found[0]):02X}", label) or "%"
    raw = name.encode()
    if len(raw) <= _LONGEST:
        return name
    return raw[: _LONGEST - 17].decode(errors="ignore") + "-" + hashlib.sha256(raw).hexdigest()[:16]


def _folder(samples: pa.Table, path: Path) -> None:
    _refuse_used(path)
    for row in samples.select(["candidate_id", "label", "image"]).to_pylist():
        folder = path if row["label"] is None else path / _folder_name(row["label"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row['candidate_id']:09d}.png").write_bytes(row["image"])
