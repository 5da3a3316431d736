"""Opens a release on a disk or a store, and checks what it reads against the manifests."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.record import population_files
from pe_beam.contracts.store import Folder
from pe_beam.errors import InputError, StorageError
from pe_beam.releases.privacy import Privacy, as_privacy
from pe_beam.storage import open_store
from pe_beam.storage.parquet import buffered

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT_VERSION = 1
OWN_COLUMNS = ("candidate_id", "parent_id", "origin", "state")
"""Columns of a population that pe_beam adds to a record and its label."""
NAMES = ("release", "release-NOT-PRIVATE")
_HISTOGRAM = "histogram/part-00000.parquet"
_MANIFEST = re.compile(r"iteration=(\d{4,})/manifest\.json")


@dataclass(frozen=True, eq=False, repr=False)
class Release:
    """What a run has published so far. Files are read when they are asked for; nothing outside the folder is opened.

    A file that is damaged or missing raises InputError, which names it. A run that is under way is no fault: its
    release has fewer iterations, and no privacy statement yet.

    Attributes:
      folder: `release` or `release-NOT-PRIVATE`, wherever it lies.
      so_far: what takes the place of `privacy.json` until it is there; a driver gives it to its callbacks.
      recipe_so_far: what takes the place of `recipe.json` until it is there.
      newest: the newest iteration that is shown, as a callback gets it; None: all of them.
    """

    folder: Folder
    so_far: Privacy | None = None
    recipe_so_far: Mapping[str, Any] | None = None
    newest: int | None = None

    def __repr__(self) -> str:
        """Returns where it lies. No file is read for it."""
        return f"Release({str(self.folder)!r})"

    @property
    def complete(self) -> bool:
        """Whether the run is complete: `privacy.json` is the last file of a release."""
        return self.newest is None and self.folder.exists("privacy.json")

    @property
    def private(self) -> bool:
        """False if there is no promise (epsilon = infinity): if the folder, a manifest or `privacy.json` says so."""
        if self.folder.prefix == NAMES[1] or self.folder.store.uri.rstrip("/").endswith(NAMES[1]):
            return False
        if self.folder.exists(_of(0, "manifest.json")) and self.manifest(0).get("private") is False:
            return False
        privacy = self.privacy
        return privacy is None or privacy["epsilon"] != math.inf

    @property
    def privacy(self) -> Privacy | None:
        """The content of `privacy.json`; None: the run is not complete, and nothing is said yet."""
        if not self.complete:
            return self.so_far
        return as_privacy(self._json("privacy.json"), self._at("privacy.json"))

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The public form of the recipe, `recipe.json`; None: it is not there yet."""
        return self._json("recipe.json") if self.folder.exists("recipe.json") else self.recipe_so_far

    @property
    def iterations(self) -> list[int]:
        """Iterations that exist, 0 (the random population) to T in a complete run.

        Raises:
          InputError: the manifest of an earlier iteration is missing.
        """
        found = sorted(int(match[1]) for name in self.folder.list_files() if (match := _MANIFEST.fullmatch(name)))
        privacy = self.privacy if self.complete else None
        last = max([*found, -1 if privacy is None else privacy["iterations"]])
        for iteration in range(last + 1):
            if iteration not in found:
                raise self._missing(_of(iteration, "manifest.json"))
        return [iteration for iteration in found if self.newest is None or iteration <= self.newest]

    @property
    def iteration(self) -> int:
        """The newest iteration. Raises InputError if there is none yet."""
        known = self.iterations
        if not known:
            raise InputError(f"{self.folder}: there is no population yet; the run has only begun")
        return known[-1]

    def manifest(self, iteration: int) -> dict[str, Any]:
        """Returns the manifest of an iteration: candidates by label, and the digest of each file.

        Raises:
          InputError: there is no such iteration, or its manifest is damaged or of a newer format.
        """
        name = _of(iteration, "manifest.json")
        late = self.newest is not None and iteration > self.newest
        if iteration < 0 or late or not self.folder.exists(name):
            known = self.iterations
            have = f"{known[0]} to {known[-1]}" if known else "none yet"
            raise InputError(f"iteration {iteration}: this release has no such iteration; allowed: {have}")
        found = self._json(name)
        if found.get("version") != FORMAT_VERSION:
            raise InputError(f"{self._at(name)}: format {FORMAT_VERSION} is wanted; a newer pe_beam may read it")
        files, counts = found.get("files"), found.get("candidates")
        whole = isinstance(files, dict) and all(_is_digest(about) for about in files.values())
        if not (whole and isinstance(counts, dict) and all(isinstance(count, int) for count in counts.values())):
            raise self._damaged(name)
        return found

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns a population, sorted by candidate_id.

        Args:
          iteration: 0 to the newest one.
          columns: the columns to read; None: all.

        Raises:
          InputError: there is no such iteration or column, or a file of it is damaged or missing.
        """
        manifest = self.manifest(iteration)
        parts = [self._table(iteration, manifest, name, columns) for name, _ in population_files(manifest)]
        return pa.concat_tables(parts)

    def histogram(self, iteration: int) -> pa.Table:
        """Returns the noisy votes on population t-1 (candidate_id, label, noisy_votes), for iteration t from 1 on.

        Raises:
          InputError: there is no such histogram, or its file is damaged or missing.
        """
        if iteration == 0:
            raise InputError("iteration 0: no votes are cast on nothing; histograms start with iteration 1")
        return self._table(iteration, self.manifest(iteration), _HISTOGRAM, None)

    def measurements(self) -> dict[str, pa.Table]:
        """Returns the noisy counts that were bought before iteration 1 (labels, marginals), by the name of their file.

        A table has the cells as columns and `noisy_count` (float64, in records). Empty: nothing was measured.

        Raises:
          InputError: there is no iteration 0 yet, or a file is damaged or missing.
        """
        manifest = self.manifest(0)
        names = [name for name in manifest["files"] if name.endswith(".parquet") and not name.startswith("population/")]
        return {name: self._table(0, manifest, name, None) for name in sorted(names)}

    def samples(self) -> pa.Table:
        """Returns the samples: `samples.parquet` of a complete run, else the newest population.

        Raises:
          InputError: a file is damaged or missing, or there is no population yet.
        """
        newest = self.population(self.iteration)
        if self.complete:
            name = "samples.parquet"
            if not self.folder.exists(name):
                raise self._missing(name)
            if not self._parsed(name, self.folder.read(name), None).equals(newest):
                raise self._damaged(name)
        return newest

    def records(self, iteration: int | None = None) -> pa.Table:
        """Returns the samples, or a population, without the columns that pe_beam has added: label (if any), content."""
        samples = self.samples() if iteration is None else self.population(iteration)
        unlabelled = "label" in samples.column_names and samples["label"].null_count == len(samples)
        left_out = {*OWN_COLUMNS, *(["label"] if unlabelled else [])}
        return samples.select([name for name in samples.column_names if name not in left_out])

    def to_pandas(self) -> Any:
        """Returns `records` as a pandas DataFrame, dates as datetime64, integers of which some are missing as Int64.

        Raises:
          MissingExtraError: pandas is not installed.
        """
        from pe_beam.releases.frames import to_pandas

        return to_pandas(self.records())

    def images(self, iteration: int | None = None) -> list[Image]:
        """Returns the pictures of the samples, or of a population, as Pillow images, in order of candidate_id.

        Raises:
          InputError: the records are no pictures, or a file is damaged or missing.
        """
        from pe_beam.releases.frames import to_images

        return to_images(self.samples() if iteration is None else self.population(iteration))

    def report(self) -> str:
        """Returns where the report lies, a self-contained HTML file.

        Raises:
          InputError: it is not there: the run is not complete.
        """
        if not self.folder.exists("report.html"):
            raise InputError(f"{self._at('report.html')}: not there yet; a complete run has one")
        return self._at("report.html")

    def report_html(self) -> str:
        """Returns the report as HTML. Raises InputError as `report` does."""
        self.report()
        return self.folder.read("report.html").decode("utf-8", "replace")

    def verify(self) -> None:
        """Checks every file that a manifest lists, and the samples. Raises InputError for the first that differs."""
        for iteration in self.iterations:
            for name in (manifest := self.manifest(iteration))["files"]:
                self._bytes(iteration, manifest, name)
        if self.iterations:
            self.samples()

    def _repr_html_(self) -> str:
        """Returns the release as HTML, which notebooks show."""
        from pe_beam.releases.notebook import html

        return html(self)

    def _table(self, iteration: int, manifest: Mapping[str, Any], name: str, columns: Sequence[str] | None) -> pa.Table:
        return self._parsed(_of(iteration, name), self._bytes(iteration, manifest, name), columns)

    def _bytes(self, iteration: int, manifest: Mapping[str, Any], name: str) -> bytes:
        """Returns the bytes of a file that a manifest lists, if they are those that it lists."""
        listed, own = manifest["files"].get(name), _of(iteration, name)
        if listed is None:
            raise self._damaged(_of(iteration, "manifest.json"))
        try:
            there = self.folder.exists(own)
        except StorageError:  # a name that leaves the folder
            raise self._damaged(_of(iteration, "manifest.json")) from None
        if not there:
            raise self._missing(own)
        data = self.folder.read(own)
        if hashlib.sha256(data).hexdigest() != listed["sha256"]:
            raise self._damaged(own)
        return data

    def _parsed(self, name: str, data: bytes, columns: Sequence[str] | None) -> pa.Table:
        try:
            with pq.ParquetFile(buffered(data)) as file:
                for column in columns or ():
                    if column not in file.schema_arrow.names:
                        allowed = ", ".join(file.schema_arrow.names)
                        raise InputError(f"columns: {column!r} is not in {name}; allowed: {allowed}")
                return file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError):
            raise self._damaged(name) from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.folder.read(name))
        except (ValueError, RecursionError):
            raise self._damaged(name) from None
        if not isinstance(found, dict):
            raise self._damaged(name)
        return cast(dict[str, Any], found)

    def _at(self, name: str) -> str:
        return self.folder.store.at(self.folder.name(name))

    def _damaged(self, name: str) -> InputError:
        return InputError(f"{self._at(name)}: damaged, not what was released; restore it")

    def _missing(self, name: str) -> InputError:
        return InputError(f"{self._at(name)}: missing, though the release has had it; restore it")


def open_release(path: str | Path) -> Release:
    """Opens a release, of a complete run or of one that is under way. Needs no private file, and opens none.

    Args:
      path: a run directory, or a release folder that was copied from one; a path or the URL of a store.

    Raises:
      InputError: it is neither.
      PeBeamError: the store cannot be opened.

    >>> import pe_beam
    >>> recipe = pe_beam.load_recipe("digits", ["evolution.iterations=1", "evolution.samples=20"])
    >>> _ = pe_beam.evolve(recipe, "memory://to-be-read")
    >>> release = pe_beam.open_release("memory://to-be-read")
    >>> release.iterations, release.samples().num_rows, release.privacy["epsilon"]
    ([0, 1], 20, 1.0)
    """
    store = open_store(path)
    for prefix in ("", *NAMES):
        folder = Folder(store, prefix)
        if any(folder.exists(name) for name in ("privacy.json", _of(0, "manifest.json"))):
            return Release(folder)
    if store.exists("stream.json"):
        raise InputError(f"{path}: the directory of a stream; that of a window is wanted, windows/START in it")
    if store.exists("recipe.yaml"):  # a run that has only begun
        return Release(Folder(store, NAMES[_is_unprotected(store.read("recipe.yaml"))]))
    raise InputError(f"{path}: no release; a run directory or a folder 'release' of one is wanted")


def _is_unprotected(recipe: bytes) -> bool:
    """Returns whether a run's recipe.yaml says epsilon = infinity, or a start from a release without a promise."""
    import yaml

    try:
        told = yaml.safe_load(recipe)
        found = (told["evolution"].get("start") or {}).get("found") or {}
        return found.get("promise") in ("none", "unknown") or float(told["privacy"]["epsilon"]) == math.inf
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_digest(about: Any) -> bool:
    return isinstance(about, dict) and isinstance(about.get("sha256"), str)


def _of(iteration: int, name: str) -> str:
    return f"iteration={iteration:04d}/{name}"
