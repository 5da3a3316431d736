"""The contract of a store as checks, each with an empty store of its own. `pe_beam.testing.check_store` runs all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.breach import hold
from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import LockedError, StorageError
from pe_beam.storage import open_store
from pe_beam.storage.parquet import parquet_file, read_parquet

T = TypeVar("T")
WRITERS, UPDATERS, TURNS = 32, 8, 25
PRELOAD: list[str] = []
"""Modules that a store imports late, to be imported once for all processes of a race and not by each."""
_OUTSIDE = ("", "/etc/x", "..", "../x", "a/../../x", "a/../b", "./a", "a//b", "a/", "a\\..\\b", "a\0b")


@dataclass(frozen=True)
class Bench:
    """What a check works on.

    Attributes:
      store: an empty one.
      apart: whether other processes open the same files by its URI.
      expiry: seconds after which the lease of a holder that was killed is free.
    """

    store: Store
    apart: bool = True
    expiry: float = 5.0

    def race(self, work: Callable[[Store, int], T], count: int) -> list[T]:
        """What `work` returns to each of `count` workers, processes or threads, that begin together."""
        if self.apart:
            start: Any = _context().Barrier(count)
            pool: Any = ProcessPoolExecutor(
                count, _context(), initializer=_begin_with, initargs=(start, dict(os.environ))
            )
        else:
            start = threading.Barrier(count)
            _begin_with(start, {})
            pool = ThreadPoolExecutor(count)
        with pool:
            futures: list[Future[T]] = [pool.submit(_begin, work, self.store, place) for place in range(count)]
            return [future.result() for future in futures]

    def killed(self, work: Callable[[Store, Callable[[], None]], None]) -> None:
        """Runs `work` in a process that is killed where it calls what it is given; in a thread that fails there."""
        if not self.apart:
            with contextlib.suppress(_KilledError):
                work(self.store, _fail)
            return
        process = _context().Process(target=_work_apart, args=(work, self.store, dict(os.environ)))
        process.start()
        process.join()
        hold(
            process.exitcode == -signal.SIGKILL, f"{work.__name__}: the process was to be killed half-way, and was not"
        )


class _KilledError(Exception):
    pass


def _fail() -> None:
    raise _KilledError


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _context() -> ForkServerContext:
    """Processes that share nothing with this one, and start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOAD])
    return context


_starts: list[Any] = []


def _begin_with(start: Any, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # processes of a fork server have that of its start: endpoints may have changed
    _starts[:] = [start]


def _work_apart(work: Callable[[Store, Callable[[], None]], None], store: Store, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    work(store, _kill)


def _begin(work: Callable[[Store, int], T], store: Store, place: int) -> T:
    _starts[0].wait(120)
    return work(store, place)


def _body(place: int) -> bytes:
    return f"{place:06d}".encode() * 30_000


def _refused(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except StorageError:
        return
    hold(False, f"{what}: StorageError is wanted")


# --- create if absent --------------------------------------------------------------------------------------


def _commit_body(store: Store, place: int) -> bool:
    return store.commit("raced/file", _body(place))


def _one_of_racing_writers_wins(bench: Bench) -> None:
    won = bench.race(_commit_body, WRITERS)
    hold(sum(won) == 1, f"commit: {sum(won)} of {WRITERS} racing writers were told that they won")
    hold(bench.store.read("raced/file") == _body(won.index(True)), "commit: the file is not what the winner wrote")
    hold(not bench.store.commit("raced/file", b"late"), "commit: a file that is there was written again")
    hold(bench.store.list_files() == ["raced/file"], "list_files: racing writers have left more than one file")
    hold(bench.store.commit("raced/file", b"late", replace=True), "commit: replace did not win")
    hold(bench.store.read("raced/file") == b"late", "commit: replace did not replace")


def _commit_half(store: Store, end: Callable[[], None]) -> None:
    _write_half(store, end, replace=False)


def _replace_half(store: Store, end: Callable[[], None]) -> None:
    _write_half(store, end, replace=True)


def _write_half(store: Store, end: Callable[[], None], *, replace: bool) -> None:
    def write(file: BinaryIO) -> None:
        file.write(_body(1))
        file.flush()
        end()

    store.commit("private/deep/file", write, replace=replace)


def _update_half(store: Store, end: Callable[[], None]) -> None:
    def change(_: bytes | None) -> bytes:
        end()
        return b"never"

    store.update("private/deep/file", change)


def _a_killed_writer_leaves_nothing(bench: Bench) -> None:
    store = bench.store
    for work in (_commit_half, _replace_half, _update_half):
        bench.killed(work)
        hold(not store.exists("private/deep/file"), f"{work.__name__}: a killed writer has left a file")
        hold(store.list_files() == [], f"{work.__name__}: list_files shows what a killed writer has left")
    hold(store.commit("private/deep/file", b"whole"), "commit: a killed writer keeps others from the name")
    for work in (_replace_half, _update_half):
        bench.killed(work)
        hold(store.read("private/deep/file") == b"whole", f"{work.__name__}: a killed writer has changed the file")
    hold(
        store.update("private/deep/file", lambda _: b"next") == b"next", "update: a killed writer still holds the file"
    )
    store.sweep_attempts("private/deep/file")
    store.sweep_attempts()
    hold(store.list_files() == ["private/deep/file"], "sweep_attempts: it took a file, or left an attempt")


def _nobody_sees_a_half(bench: Bench) -> None:
    store, seen = bench.store, []

    def write(file: BinaryIO) -> None:
        file.write(_body(1))
        file.flush()
        seen.append(store.exists("a/file") or store.list_files())
        if len(seen) == 2:
            raise KeyError("a fault of the writer")

    for replace in (False, True):
        with contextlib.suppress(KeyError):
            store.commit("a/file", write, replace=replace)
        store.delete("a/file")
    hold(not any(seen), "commit: a file was seen before it was whole")
    hold(len(seen) == 2, "commit: what the writer raises has to pass")


# --- compare and swap --------------------------------------------------------------------------------------


def _swap_loses_against_another_version(bench: Bench) -> None:
    store = bench.store
    for unknown in ("no version", "none", "7"):
        hold(not store.swap("f", b"x", unknown), "swap: a file that is not there was changed")
    hold(store.swap("f", b"one", None), "swap: None is for a file that is not there")
    first = store.version("f")
    hold(store.version("f") == first, "version: another one of the same file")
    hold(not store.swap("f", b"x", None), "swap: None took the place of a file")
    hold(store.swap("f", b"two", first), "swap: refused, though the version is the expected one")
    hold(not store.swap("f", b"x", first), "swap: it won against a newer version")
    hold(store.read("f") == b"two", "swap: the loser has changed the file")
    second = store.version("f")
    store.update("f", lambda _: b"TWO")  # as long as before
    hold(len({first, second, store.version("f")}) == 3, "version: the same for other bytes")
    hold(not store.swap("f", b"x", second), "swap: it won against an update of the same length")
    store.delete("f")
    hold(not store.swap("f", b"x", second), "swap: it made a file that was deleted")
    hold(not store.exists("f"), "swap: the loser has made a file")


def _swap_once(store: Store, place: int) -> bool:
    return store.swap("f", _body(place), store.read("version").decode())


def _one_of_racing_swaps_wins(bench: Bench) -> None:
    bench.store.commit("f", b"first")
    bench.store.commit("version", bench.store.version("f").encode())
    won = bench.race(_swap_once, UPDATERS)
    hold(sum(won) == 1, f"swap: {sum(won)} of {UPDATERS} that expected the same version won")
    hold(bench.store.read("f") == _body(won.index(True)), "swap: the file is not what the winner wrote")


def _update_both(store: Store, place: int) -> int:
    for turn in range(TURNS):
        store.update("padded", lambda data: b"%-8000d" % (int(data or b"0") + 1), durable=False)
        line = f"{place}:{turn}\n".encode()
        store.update("grown", lambda data, line=line: (data or b"") + line)  # type: ignore[misc]
    return place


def _updates_are_never_lost(bench: Bench) -> None:
    store, stop, halves = bench.store, threading.Event(), []

    def read() -> None:
        while not stop.wait(0.005):  # a busy loop would take the core from the writers
            data = store.read("padded") if store.exists("padded") else b"%-8000d" % 0
            if len(data) != 8000 or not data.strip().isdigit():
                halves.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        bench.race(_update_both, UPDATERS)
    finally:
        stop.set()
        reader.join()
    hold(not halves, "read: it saw half of an update")
    hold(int(store.read("padded")) == UPDATERS * TURNS, "update: one of racing updates was lost")
    wanted = sorted(f"{place}:{turn}" for place in range(UPDATERS) for turn in range(TURNS))
    hold(sorted(store.read("grown").decode().split()) == wanted, "update: one of racing updates was lost")
    before = store.read("grown")

    def refuse(_: bytes | None) -> bytes:
        raise KeyError("no")

    with contextlib.suppress(KeyError):
        store.update("grown", refuse)
        hold(False, "update: what the change raises has to pass")
    hold(store.read("grown") == before, "update: a change that raised has changed the file")


def _append_lines(store: Store, place: int) -> int:
    for turn in range(TURNS):
        store.append("log/shared", f"{place}:{turn}\n".encode(), durable=turn % 5 == 0)
    store.append("log/shared", b"")
    return place


def _appended_lines_are_not_mixed(bench: Bench) -> None:
    bench.race(_append_lines, UPDATERS)
    lines = bench.store.read("log/shared").decode().split()
    wanted = {f"{place}:{turn}" for place in range(UPDATERS) for turn in range(TURNS)}
    hold(len(lines) == len(wanted) and set(lines) == wanted, "append: lines are lost, doubled or mixed")
    for place in range(UPDATERS):
        own = [line for line in lines if line.startswith(f"{place}:")]
        hold(own == [f"{place}:{turn}" for turn in range(TURNS)], "append: the lines of one writer changed order")
    bench.store.append("log/own", b"a\n", durable=False)
    bench.store.delete("log/own")
    bench.store.append("log/own", b"b\n", durable=False)
    hold(bench.store.read("log/own") == b"b\n", "append: after a deletion the file begins anew")


# --- leases ------------------------------------------------------------------------------------------------


def _try_lease(store: Store, place: int) -> bool:
    """Whoever gets it holds it until all have tried, however late a busy machine lets the last one begin."""
    try:
        with store.lease("locks/one", patience=0):
            _wait_for_all()
            return True
    except LockedError:
        _wait_for_all()
        return False


def _wait_for_all() -> None:
    try:
        _starts[0].wait(120)
    except threading.BrokenBarrierError:
        hold(False, "lease: of those that race for it without patience, not each got it or was refused")


def _a_lease_excludes(bench: Bench) -> None:
    store = bench.store
    hold(not store.is_leased("locks/one"), "is_leased: nobody has held it yet")
    with store.lease("locks/one"):
        hold(store.is_leased("locks/one"), "is_leased: False, though it is held")
        hold(not any(bench.race(_try_lease, 2)), "lease: a second holder got it")
        with store.lease("locks/two", patience=0):
            pass
    hold(not store.is_leased("locks/one"), "is_leased: True after the body has ended")
    hold(sum(bench.race(_try_lease, UPDATERS)) == 1, "lease: not exactly one of those that race for it got it")
    with contextlib.suppress(KeyError), store.lease("locks/one"):
        raise KeyError("a fault of the body")
    with store.lease("locks/one", patience=0):
        pass
    with store.lock():
        hold(store.locked(), "locked: False, though the run lock is held")
        try:
            with open_store(store.uri).lock(patience=0):
                hold(False, "lock: a second driver got it")
        except LockedError as error:
            hold(str(error) == f"{store.uri}: another process is running in this directory", "lock: another message")


def _hold_lease(store: Store, end: Callable[[], None]) -> None:
    with store.lease("locks/one"):
        end()


def _a_lease_dies_with_its_holder(bench: Bench) -> None:
    bench.killed(_hold_lease)
    limit = time.monotonic() + bench.expiry
    while bench.store.is_leased("locks/one"):
        hold(time.monotonic() < limit, "is_leased: the holder was killed, and the lease lives on")
        time.sleep(0.05)
    with bench.store.lease("locks/one", patience=bench.expiry):
        pass


# --- reading -----------------------------------------------------------------------------------------------


def _all_ways_of_reading_agree(bench: Bench) -> None:
    store = bench.store
    data = hashlib.shake_256(b"pe_beam").digest(1_000_003)

    def write(file: BinaryIO) -> None:
        file.write(data[:7])
        file.write(data[7:])

    store.commit("deep/down/file", write)
    hold(store.read("deep/down/file") == data, "read: not what was written")
    hold(store.size("deep/down/file") == len(data), "size: not that of what was written")
    hold(store.digest("deep/down/file") == hashlib.sha256(data).hexdigest(), "digest: not that of what was written")
    for start, length in ((0, 0), (0, 10), (999_999, 10), (5, 2_000_000), (1_000_003, 4), (2_000_000, 4)):
        found = store.read_range("deep/down/file", start, length)
        hold(found == data[start : start + length], f"read_range: {length} bytes from {start} on are others")
    view = store.mapped("deep/down/file")
    hold(view == data and view.readonly, "mapped: other bytes, or bytes that can be changed")
    with store.open("deep/down/file") as file:
        hold(file.seekable() and file.readable(), "open: the file has to be readable and seekable")
        hold(file.read(5) == data[:5] and file.tell() == 5, "open: read, tell")
        hold(file.seek(-6, io.SEEK_END) == len(data) - 6 and file.read() == data[-6:], "open: seek from the end")
        hold(file.read(3) == b"", "open: nothing is left at the end")
        hold(file.seek(100) == 100 and file.read(200_000) == data[100:200_100], "open: seek from the start")
        hold(file.seek(7, io.SEEK_CUR) == 200_107 and file.read(1) == data[200_107:200_108], "open: seek from here")
    table = pa.table({"a": list(range(3000)), "b": [str(i) for i in range(3000)]})
    store.commit("t.parquet", lambda file: pq.write_table(table, file, row_group_size=1000))
    hold(read_parquet(store, "t.parquet").equals(table), "open: Parquet is read otherwise than it was written")
    with parquet_file(store, "t.parquet") as parquet:
        group = parquet.read_row_group(1, columns=["a"])
        hold(group.equals(table.slice(1000, 1000).select(["a"])), "open: a row group is read otherwise")
    store.copy("deep/down/file", "copied")
    store.copy("deep/down/file", "copied")
    hold(store.read("copied") == data, "copy: other bytes")
    store.commit("other", b"other")
    _refused("copy onto other bytes", lambda: store.copy("deep/down/file", "other"))
    hold(store.read("other") == b"other", "copy: a file that was there has changed")
    store.commit("empty", b"")
    hold(not store.mapped("empty"), "mapped: an empty file is not empty")
    store.delete("deep/down/file")
    hold(view == data, "mapped: the bytes have changed with the deletion of the file")


def _names_below_a_folder(bench: Bench) -> None:
    store = bench.store
    names = ["a/b/1", "a/b/2", "a/c", "a.b", "ab", "private/x/y", "work/z"]
    for name in reversed(names):
        store.commit(name, name.encode())
    hold(store.list_files() == sorted(names), "list_files: not all names, or not sorted")
    hold(store.list_files("a") == ["a/b/1", "a/b/2", "a/c"], "list_files: not what lies below the folder")
    hold(store.list_files("nowhere") == [], "list_files: something below a folder that is not there")
    hold(not store.exists("a"), "exists: True of a folder")
    folder = Folder(store, "a") / "b"
    hold(folder.list_files() == ["1", "2"] and folder.read("2") == b"a/b/2", "Folder: it shows other files")
    store.delete("a/b")
    store.delete("nowhere/at/all")
    hold(store.list_files("a/b") == ["a/b/1", "a/b/2"], "delete: it took a folder")
    store.delete("a/b/1")
    hold(store.list_files("a") == ["a/b/2", "a/c"], "delete: the file is there still, or more is gone")
    store.delete_all("a")
    store.delete_all("nowhere")
    hold(store.list_files() == ["a.b", "ab", "private/x/y", "work/z"], "delete_all: not what lies below the folder")
    store.remove("private")
    store.remove("ab")
    store.remove("nowhere")
    hold(store.list_files() == ["a.b", "work/z"], "remove: not the file, or not all below the folder")
    hold(store.commit("ab", b"again") and store.commit("a/b/1", b"again"), "commit: refused after a deletion")


def _what_is_not_there_is_a_storage_error(bench: Bench) -> None:
    store = bench.store
    _refused("read of no file", lambda: store.read("no/file"))
    _refused("size of no file", lambda: store.size("no/file"))
    _refused("version of no file", lambda: store.version("no/file"))
    _refused("digest of no file", lambda: store.digest("no/file"))
    _refused("mapped of no file", lambda: store.mapped("no/file"))
    _refused("open of no file", lambda: store.open("no/file").read())
    _refused("read_range of no file", lambda: store.read_range("no/file", 0, 1))
    _refused("copy of no file", lambda: store.copy("no/file", "target"))
    hold(store.list_files() == [], "a file was made by asking for one")


def _names_that_leave_are_refused(bench: Bench) -> None:
    store = bench.store
    store.commit("kept", b"kept")
    calls: list[Callable[[str], object]] = [
        store.exists,
        store.read,
        store.version,
        store.size,
        store.digest,
        store.open,
        lambda name: store.read_range(name, 0, 1),
        lambda name: store.commit(name, b"x"),
        lambda name: store.swap(name, b"x", None),
        lambda name: store.update(name, lambda _: b"x"),
        lambda name: store.append(name, b"x"),
        lambda name: store.copy("kept", name),
        store.delete,
        store.is_leased,
        lambda name: store.lease(name).__enter__(),
    ]
    of_folders: list[Callable[[str], object]] = [store.list_files, store.delete_all]  # "" is all of the store
    for name in _OUTSIDE:
        for place, call in enumerate([*calls, *(of_folders if name else [])]):
            _refused(f"call {place} with the name {name!r}", functools.partial(call, name))
    hold(store.list_files() == ["kept"], "a name that leaves the store has made or deleted a file")


def _other_processes_open_it_by_its_uri(bench: Bench) -> None:
    store = bench.store
    store.commit("private/secret.key", b"s3cr3t" * 6)
    for again in (pickle.loads(pickle.dumps(store)), open_store(store.uri)):  # noqa: S301 - our own bytes
        hold(again == store and again.uri == store.uri, "uri: it opens another store")
        hold(again.read("private/secret.key") == b"s3cr3t" * 6, "uri: it opens other files")
    hold(b"s3cr3t" not in pickle.dumps(store), "pickle: it holds content")
    hold("s3cr3t" not in f"{store!r} {store}", "repr: it holds content")
    hold(pickle.loads(pickle.dumps(Folder(store, "a"))) == Folder(store, "a"), "Folder: not pickled")  # noqa: S301


CHECKS: tuple[Callable[[Bench], None], ...] = (
    _one_of_racing_writers_wins,
    _a_killed_writer_leaves_nothing,
    _nobody_sees_a_half,
    _swap_loses_against_another_version,
    _one_of_racing_swaps_wins,
    _updates_are_never_lost,
    _appended_lines_are_not_mixed,
    _a_lease_excludes,
    _a_lease_dies_with_its_holder,
    _all_ways_of_reading_agree,
    _names_below_a_folder,
    _what_is_not_there_is_a_storage_error,
    _names_that_leave_are_refused,
    _other_processes_open_it_by_its_uri,
)


def check_store(make: Callable[[], Store], *, apart: bool = True, expiry: float = 5.0) -> None:
    """Runs a store through its contract. Its scheme has to be an entry point, for it is opened by its URI.

    Args:
      make: gives an empty store, another one at each call.
      apart: whether other processes open the same files by its URI; False: threads race in their place.
      expiry: seconds after which the lease of a holder that was killed is free.

    Raises:
      ContractError: it breaks its contract; the message says how.
    """
    for check in CHECKS:
        check(Bench(make(), apart, expiry))
