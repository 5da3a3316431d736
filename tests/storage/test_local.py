"""What only the local store promises: rights, times, links, full disks, threads and forks."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pe_beam.contracts.store import Store
from pe_beam.errors import StorageError
from pe_beam.storage import local, open_store
from pe_beam.storage.local import LocalStore
from tests.open_files import open_below


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of half a megabyte; who is not root gets one that is full from the first fsync on."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mounted)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        (mounted / "ballast").write_bytes(bytes(300_000))
        yield mounted
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)  # a caught error may hold a file open
        return
    real = os.fsync

    def fsync(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(28, "No space left on device")
        real(handle)

    (mounted / "run/work").mkdir(parents=True)
    (mounted / "run/work/old").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    yield mounted


def test_a_full_disk_is_said_and_leaves_nothing(small_disk: Path) -> None:
    store, large = open_store(small_disk / "run"), bytes(400_000)
    if not store.exists("work/old"):
        store.commit("work/old", b"old")
    full = r"failed: no space is left on its disk; free some and run again, it resumes"
    calls = [
        lambda: store.commit("work/new", large),
        lambda: store.commit("work/old", large, replace=True),
        lambda: store.commit("private/counts/0123456789abcdef", lambda file: [file.write(large), None][1]),
        lambda: store.swap("work/new", large, None),
        lambda: store.swap("work/old", large, store.version("work/old")),
        lambda: store.update("work/old", lambda _: large),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=full) as caught:
            call()
        assert "0123456789abcdef" not in str(caught.value)
    with pytest.raises(StorageError, match=r"writing work/log failed: no space is left on its disk"):
        store.append("work/log", large)
    store.delete("work/log")
    assert store.list_files() == ["work/old"]
    assert store.read("work/old") == b"old"
    attempts = [path for name in ("work", "private") for path in (small_disk / "run" / name).glob("attempts/*")]
    assert attempts == []


def test_attempts_lie_where_their_file_belongs_and_all_is_the_owners(tmp_path: Path) -> None:
    store, seen = open_store(tmp_path / "run"), {}

    def write(file) -> None:
        file.flush()
        for folder in ("private", "work"):
            seen[folder] = len(list((tmp_path / "run" / folder).glob("attempts/*")))
        file.write(b"x")

    for name, wanted in (("private/a/b", {"private": 1, "work": 0}), ("release/c", {"private": 0, "work": 1})):
        store.commit(name, write)
        assert seen == wanted
    store.update("ledger.jsonl", lambda _: b"x")
    store.append("private/times.jsonl", b"x")
    for name in store.list_files():
        assert _mode(tmp_path / "run" / name) == 0o600, name
    assert _mode(tmp_path / "run/private") == 0o700
    (tmp_path / "run/private").chmod(0o755)
    store.protect("private")
    assert _mode(tmp_path / "run/private") == 0o700


def test_a_file_keeps_its_rights_when_it_is_updated(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (tmp_path / "ledger.jsonl").write_bytes(b"of an earlier version\n")
    (tmp_path / "ledger.jsonl").chmod(0o644)
    store.update("ledger.jsonl", lambda data: (data or b"") + b"more\n")
    assert _mode(tmp_path / "ledger.jsonl") == 0o644


def test_times_in_the_release_tell_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit("release/iteration=0001/manifest.json", b"x")
    store.commit("release-NOT-PRIVATE/a", b"x")
    store.commit("work/a", b"x")
    paths = [
        path
        for name in ("release", "release-NOT-PRIVATE")
        for path in (tmp_path / name, *tmp_path.glob(f"{name}/**/*"))
    ]
    assert {path.stat().st_mtime for path in paths} == {315532800}
    assert (tmp_path / "work/a").stat().st_mtime > 315532800
    (tmp_path / "release/late").write_bytes(b"")
    store.hide_times("release")
    assert {path.stat().st_mtime for path in paths} == {315532800}


def test_a_folder_that_is_linked_from_another_disk(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/private").symlink_to(tmp_path / "other")
    store = open_store(tmp_path / "run")
    store.commit("private/a/b", b"x")
    assert store.list_files() == store.list_files("private") == ["private/a/b"]
    assert (tmp_path / "other/a/b").exists()
    store.delete_all("private")
    assert not (tmp_path / "other").exists()
    assert store.list_files() == []
    (tmp_path / "alias").symlink_to(tmp_path / "run")
    assert open_store(tmp_path / "alias").place() == store.place()


def _count(store: Store, times: int) -> None:
    for _ in range(times):
        store.update("count", lambda data: b"%06d" % (int(data or b"0") + 1), durable=False)


def test_threads_and_forks_that_share_a_store_lose_no_update(tmp_path: Path) -> None:
    """A kept handle would share its lock with a thread or a fork that uses the same one."""
    store = open_store(tmp_path)
    _count(store, 2)
    context = multiprocessing.get_context("fork")
    forks = [context.Process(target=_count, args=(store, 100)) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        for fork in forks:
            fork.start()
        list(pool.map(_count, [store] * 4, [100] * 4))
    for fork in forks:
        fork.join()
    assert int(store.read("count")) == 702


def test_a_file_that_was_replaced_or_deleted_is_not_written_on(tmp_path: Path) -> None:
    one, two = open_store(tmp_path / "run"), open_store(tmp_path / "run")
    for store in (one, two, one):
        _count(store, 1)
    two.update("count", lambda data: (data or b"").rjust(20, b"0"))
    _count(one, 1)
    assert one.read("count") == two.read("count") == b"000004"
    shutil.rmtree(tmp_path / "run")
    _count(one, 1)
    assert two.read("count") == b"000001"
    for store in (one, two):
        store.append("log", b"x", durable=False)
    shutil.rmtree(tmp_path / "run")
    one.append("log", b"y", durable=False)
    assert two.read("log") == b"y"


def test_no_file_stays_open_that_nobody_writes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for place in range(40):
        store.append(f"journal/{place}", b"x", durable=False)
        store.append(f"journal/{place}", b"")
        store.update(f"account/{place}", lambda _: b"x")
        store.update(f"account/{place}", lambda _: b"y", durable=False)
    store.update("ledger.jsonl", lambda _: b"x")
    assert 0 < open_below(tmp_path) <= 9
    del store
    assert open_below(tmp_path) == 0


def test_a_holder_is_seen_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `pe-beam status` and `watch` in a container that has the run's disk read-only."""
    store, opened = local.LocalStore(str(tmp_path)), os.open

    def read_only(path: Path, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "read-only")
        return opened(path, flags)

    with store.lease("holder"):
        monkeypatch.setattr(os, "open", read_only)
        assert store.is_leased("holder")
        monkeypatch.undo()
    monkeypatch.setattr(os, "open", read_only)
    assert not store.is_leased("holder")


def test_what_is_held_to_the_end_of_a_process_ends_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes the names of modules away before the last objects, and prints what those then raise."""
    store = local.LocalStore(str(tmp_path))
    held, kept = contextlib.ExitStack(), local._Kept(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    held.enter_context(store.lease("work/lease"))
    with monkeypatch.context() as gone:
        for name in ("os", "contextlib"):
            gone.setattr(local, name, None)
        held.close()
        kept.__del__()
    assert not store.is_leased("work/lease")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept.handle)
    kept.handle = os.open(os.devnull, os.O_RDONLY)  # its own again: a closed number may be another's by then


@pytest.mark.parametrize("asked", [LocalStore.exists, LocalStore.read, LocalStore.digest, LocalStore.size])
def test_a_folder_of_another_user_is_said(
    asked: Callable[[LocalStore, str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pe-beam status` of another's run was an internal error. The refusal is made up, for root may read all."""
    store = LocalStore(tmp_path)
    store.commit("private/told.json", b"{}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("stat", "open"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(
        StorageError, match=r"^run directory: reading .* failed: it cannot be read; check its owner and r"
    ):
        asked(store, "private/told.json")
