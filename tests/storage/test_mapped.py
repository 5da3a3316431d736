"""Large files that are mapped into memory: from a disk of this machine, whatever happens to the store's copy."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pe_beam.contracts.store import Store
from pe_beam.driver import loop
from pe_beam.engine import matrices
from pe_beam.engine.run import open_run
from pe_beam.errors import StorageError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import local, objects, open_store
from tests.open_files import open_below
from tests.storage.proxy import Proxy
from tests.storage.servers import Server
from tests.whole_runs import SMALL, Runs, release_digests

_NEXT = itertools.count(40_000)
_DATA = np.random.default_rng(0).bytes(objects.LARGE + 1_000_003)


def _mapped_from(view: memoryview) -> str:
    """The file that the bytes lie in, as the system says; "": they are plain memory."""
    at = np.frombuffer(view, dtype=np.uint8).ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(text, 16) for text in line.split()[0].split("-"))
        if start <= at < end:
            return " ".join(line.split()[5:])
    return ""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_large_file_is_mapped_and_leaves_nothing(store: Store, scratch: Path) -> None:
    store.commit("large", lambda file: [file.write(_DATA), None][1])
    store.commit("small", b"small")
    first, second = store.mapped("large"), store.mapped("large")
    assert first == second == _DATA
    assert first.readonly
    assert _mapped_from(first).startswith(str(scratch)), "not mapped from the scratch"
    assert _mapped_from(first).endswith("(deleted)"), "a kill would leave the file"
    assert store.mapped("small") == b"small"
    assert list(scratch.iterdir()) == []
    store.delete("large")
    assert first == _DATA
    del first, second
    assert open_below(scratch) == 0
    with pytest.raises(StorageError, match="No such file"):
        store.mapped("large")


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary files lie on a disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_said_and_the_bytes_are_right(
    store: Store, monkeypatch: pytest.MonkeyPatch, full_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    store.commit("large", lambda file: [file.write(_DATA), None][1])
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with caplog.at_level(logging.WARNING):
        assert store.mapped("large") == _DATA
    assert "TMPDIR: no room for a copy of a candidate matrix (No space left on device)" in caplog.text
    assert list(full_disk.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk / "nowhere"))
    assert store.mapped("large") == _DATA


def test_a_download_that_breaks_off_begins_anew(server: Server, proxy: Proxy) -> None:
    place = str(next(_NEXT))
    store = open_store(f"{server.kind}://runs/{place}")
    store.commit("large", lambda file: [file.write(_DATA), None][1])
    proxy.cut = 2  # the first 8 MB, and the whole
    proxy.requests.clear()
    assert store.mapped("large") == _DATA
    assert proxy.cut == 0
    assert 2 <= len(proxy.naming(place)) <= 8


def test_a_run_whose_matrices_are_mapped_releases_the_same_bytes(
    store: Store, scratch: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    monkeypatch.setattr(objects, "LARGE", 1000)
    real = matrices.CandidateMatrix

    def looked_at(**given):
        places.append(_mapped_from(memoryview(given["vectors"]).cast("B")))
        return real(**given)

    monkeypatch.setattr(matrices, "CandidateMatrix", looked_at)
    wanted = runs.finished(SMALL)
    assert all(place.endswith("matrix.npy") for place in places)  # a run that is made now maps its own files
    places.clear()
    loop.evolve(parse_recipe(SMALL), store.uri, secret_file=runs.secret_file)
    found = {name: store.digest(f"release/{name}") for name in release_digests(wanted)}
    assert found == release_digests(wanted)
    assert len(places) == 2
    assert all(place.startswith(str(scratch)) for place in places)


def test_a_file_of_a_disk_is_mapped_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.commit("work/matrix", _DATA)
    view = store.mapped("work/matrix")
    assert view == _DATA
    assert _mapped_from(view) == str(tmp_path / "work/matrix")
    monkeypatch.setattr(local, "_ON_THIS_MACHINE", ())  # as on NFS
    assert _mapped_from(store.mapped("work/matrix")) != str(tmp_path / "work/matrix")
    assert store.mapped("work/matrix") == _DATA


def test_a_matrix_on_a_disk_is_not_read_whole(runs: Runs, tmp_path: Path) -> None:
    run = open_run(runs.finished(SMALL))
    found = matrices.load_matrix(run, 1)
    assert _mapped_from(memoryview(found.vectors).cast("B")).endswith("work/iteration=0001/matrix.npy")
    assert found.digest == run.store.digest("work/iteration=0001/matrix.npy")
    assert not found.vectors.flags.writeable
