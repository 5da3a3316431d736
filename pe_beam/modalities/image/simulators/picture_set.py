"""A public set of pictures on disk, with their vectors: built once, committed whole, mapped by every process.

A folder holds the pictures as candidates show them (PNG, one after the other), the byte at which each begins, float32
vectors, and what the search needs (`neighbours`). It is built beside its place, and then renamed. `set.json` in it has
the sizes of its files, so that an incomplete set is found and built again. The folder is a cache: it may be deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pe_beam.errors import StorageError
from pe_beam.keyed import encode_fields
from pe_beam.modalities.image.simulators.basis import Basis, levels_of
from pe_beam.modalities.image.simulators.neighbours import Neighbours

VERSION = 1
_ABOUT = "set.json"
_PART = 8192  # vectors placed at a time
_HEAD = 128  # bytes of a .npy header


class Writer:
    """Writes pictures and vectors in batches. It keeps only the places and labels of pictures in memory."""

    def __init__(self, folder: Path, dimension: int) -> None:
        """Begins the files of a set in an empty folder."""
        self._folder, self._dimension = folder, dimension
        self._ends: list[np.ndarray] = [np.zeros(1, np.int64)]
        self._labels: list[np.ndarray] = []
        self.rows = 0
        self._images = (folder / "images.bin").open("wb")
        self._vectors = (folder / "vectors.npy").open("wb")
        self._vectors.write(bytes(_HEAD))

    def add(self, images: list[bytes], vectors: np.ndarray, labels: list[int]) -> None:
        """Adds pictures as PNG, vectors float32 (n, d), and the index of each picture's label, -1 for none."""
        if not images:
            return
        for image in images:
            self._images.write(image)
        sizes = np.array([len(image) for image in images], np.int64)
        self._ends.append(self._ends[-1][-1] + np.cumsum(sizes))
        self._labels.append(np.array(labels, np.int32))
        self._vectors.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        self.rows += len(images)

    def finish(self, about: dict[str, Any]) -> None:
        """Writes the files that are computed from the vectors, and `set.json` last."""
        self._vectors.seek(0)
        self._vectors.write(_npy_head((self.rows, self._dimension)))
        for file in (self._images, self._vectors):
            _synced(file)
        vectors = np.load(self._folder / "vectors.npy", mmap_mode="r")
        basis = Basis.of(vectors)
        with (self._folder / "heads.npy").open("wb") as heads, (self._folder / "tails.npy").open("wb") as tails:
            heads.write(_npy_head((self.rows, basis.axes.shape[1])))
            tails.write(_npy_head((self.rows, len(levels_of(self._dimension)))))
            for start in range(0, self.rows, _PART):
                head, tail = basis.place(np.asarray(vectors[start : start + _PART]))
                heads.write(head.tobytes())
                tails.write(tail.tobytes())
            _synced(heads)
            _synced(tails)
        np.save(self._folder / "ends.npy", np.concatenate(self._ends))
        np.save(self._folder / "labels.npy", np.concatenate(self._labels))
        np.save(self._folder / "centre.npy", basis.centre)
        np.save(self._folder / "axes.npy", basis.axes)
        sizes = {path.name: path.stat().st_size for path in sorted(self._folder.iterdir())}
        text = json.dumps(about | {"version": VERSION, "pictures": self.rows, "files": sizes}, indent=1)
        with (self._folder / _ABOUT).open("wb") as last:
            last.write(text.encode())
            _synced(last)


class PictureSet:
    """A committed set, open for reading.

    Attributes:
      key: follows from what it was made from (`set_key`).
      count: number of pictures.
      vectors: float32 (count, d), mapped from their file.
      neighbours: searches among the vectors.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Maps the files of a committed set."""
        self.key, self._folder = key, folder
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.count = len(self.vectors)
        self._ends = np.load(folder / "ends.npy", mmap_mode="r")
        self._images = os.open(folder / "images.bin", os.O_RDONLY)
        self._close = os.close

    def __del__(self) -> None:
        try:  # noqa: SIM105 - at the end of a process no name of a module may be used here
            self._close(self._images)
        except (AttributeError, OSError):
            pass

    @cached_property
    def neighbours(self) -> Neighbours:
        """Searches among the vectors; the files that they need are mapped on first use."""
        centre, axes = np.load(self._folder / "centre.npy"), np.load(self._folder / "axes.npy")
        heads, tails = (np.load(self._folder / name, mmap_mode="r") for name in ("heads.npy", "tails.npy"))
        return Neighbours(self.vectors, Basis(centre, axes), heads, tails)

    def members(self, label: int) -> np.ndarray:
        """Returns the places of the pictures of a label, int64, ascending."""
        return np.flatnonzero(np.load(self._folder / "labels.npy", mmap_mode="r") == label)

    def image(self, place: int) -> bytes:
        """Returns a picture as PNG."""
        start, stop = int(self._ends[place]), int(self._ends[place + 1])
        data = os.pread(self._images, stop - start, start)
        if len(data) != stop - start:
            raise StorageError("generator.index: a picture there is cut short; delete the folder, and it is made anew")
        return data


def open_set(root: Path, key: str, build: Callable[[Path], None]) -> PictureSet:
    """Returns the set of a key. Builds it if it is not there or not whole.

    Several processes may ask at once. One builds, and the others wait. If it dies, the next one builds.

    Args:
      root: a folder for sets; made if it is not there.
      key: the key of the set (`set_key`).
      build: fills an empty folder through a `Writer`.

    Raises:
      StorageError: the folder cannot be written, or the disk is full.
      PeBeamError: what `build` raises.
    """
    place = root / key
    try:
        if not _is_whole(place):
            root.mkdir(parents=True, exist_ok=True)
            with _lock(root / f"{key}.lock"):
                if not _is_whole(place):
                    _rebuild(root, place, build)
        return PictureSet(place, key)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"generator.index: {str(root)!r} cannot be used for the set's index ({reason})") from None


def set_key(*parts: Any) -> str:
    """Returns 32 hex digits that follow from what a set is made from, given as plain data."""
    canonical = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(b"pe_beam/picture-set" + encode_fields(VERSION, canonical)).hexdigest()[:32]


def _rebuild(root: Path, place: Path, build: Callable[[Path], None]) -> None:
    for old in root.glob(f"{place.name}.new-*"):  # of a process that died: only one builds at a time
        shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{place.name}.new-", dir=root))
    try:
        build(made)
        shutil.rmtree(place, ignore_errors=True)
        made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    """Returns whether a set is there with all of its files at their sizes."""
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        sizes = about["files"]
        return about["version"] == VERSION and all((place / n).stat().st_size == size for n, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Waits for the lock. The lock is released when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _synced(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _npy_head(shape: tuple[int, int]) -> bytes:
    """Returns a .npy header of fixed length, for files that are written before their length is known."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (_HEAD - 10).to_bytes(2, "little") + text.ljust(_HEAD - 11).encode() + b"\n"
