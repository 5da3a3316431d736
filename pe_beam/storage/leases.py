"""Leases on a store that knows no locks: a small object that its holder renews, and that others take when it does not.

The object holds a nonce of its holder, a fence (a number that grows with each holder), how often it was renewed, and
for how many seconds it holds. No two machines' clocks are compared to say that a holder is gone: whoever wants the name
looks whether nonce and count stay the same for that long by a clock of its own. Only an object that the store itself
says is older than that and `SKEW` more is free at once, so that a run killed an hour ago need not be watched.

A lease saves work and keeps two drivers apart; that noise is drawn once rests on conditional writes, not on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pe_beam.errors import LockedError, StorageError

SECONDS = 60.0
"""For how long a lease holds that is not renewed; PE_BEAM_LEASE_SECONDS sets another."""
SKEW = 600.0
"""Seconds by which this machine's clock and the store's may differ: twice the 5 minutes that are promised."""
_RENEWALS = 4  # in the time that a lease holds


@dataclass(frozen=True)
class Seen:
    """A lease's object as it is now.

    Attributes:
      version: what a write has to expect.
      body: its bytes.
      modified: when it was written, in seconds since 1970, by the store's clock.
    """

    version: str
    body: bytes
    modified: float


@dataclass(frozen=True)
class Cell:
    """One object, as a lease needs it.

    Attributes:
      place: tells it from all others in this process.
      said: how messages name it.
      read: the object; None: there is none.
      write: bytes and the version that they replace (None: no object) -> the new version, None if another was faster.
    """

    place: str
    said: str
    read: Callable[[], Seen | None]
    write: Callable[[bytes, str | None], str | None]


@dataclass(frozen=True)
class _Record:
    """What the object says. `until` is by the holder's clock, for people: nobody decides by it."""

    holder: str
    fence: int
    renewed: int
    seconds: float
    until: float

    def body(self) -> bytes:
        return json.dumps({"version": 1, **asdict(self)}, sort_keys=True).encode()

    @property
    def mark(self) -> tuple[str, int, int]:
        return self.holder, self.fence, self.renewed


_seen: dict[str, tuple[tuple[str, int, int], float]] = {}
"""Place -> the mark that this process saw there last, and since when."""
_held: dict[str, Lease] = {}


class Lease:
    """A name that this process holds, renewed by a thread until it is freed."""

    def __init__(self, cell: Cell, record: _Record, version: str, begun: float) -> None:
        """Takes what `take` has written, and when that write began."""
        self._cell, self._record, self._version = cell, record, version
        self._renewed, self._lost = begun, False
        self._mutex, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        _held[cell.place] = self
        self._thread.start()

    def demand(self) -> None:
        """Makes sure that the name is still this holder's.

        Raises:
          LockedError: another one has taken it, or it could not be renewed for as long as it holds.
        """
        if not self._end.is_set() and not self._lost and _now() - self._renewed > self._record.seconds:
            self._renew()  # stopped and woken: if nobody has taken it since, it is ours again
        if self._lost or (not self._end.is_set() and _now() - self._renewed > self._record.seconds):
            raise LockedError(
                f"{self._cell.said}: this process could not renew its hold for {self._record.seconds:g} seconds, and "
                "another may be at work; what is committed stays, and the same command goes on"
            )

    def free(self) -> None:
        """Gives the name back; if that fails, it is free when it has expired."""
        self._end.set()
        if _held.get(self._cell.place) is self:
            del _held[self._cell.place]
        if sys.is_finalizing():
            return
        with self._mutex:
            if not self._lost:
                freed = replace(self._record, holder="", renewed=self._record.renewed + 1)
                with contextlib.suppress(StorageError):
                    self._lost = self._cell.write(freed.body(), self._version) is None

    def drop(self) -> None:
        """Forgets the name, whose object is about to be deleted by this process itself."""
        self._end.set()
        with self._mutex:
            self._lost = False
            _held.pop(self._cell.place, None)

    @property
    def dropped(self) -> bool:
        """Whether it was given back or dropped."""
        return self._end.is_set()

    def _keep(self) -> None:
        while not self._end.wait(self._record.seconds / _RENEWALS) and not self._lost:
            self._renew()

    def _renew(self) -> None:
        with self._mutex:
            if self._lost or self._end.is_set():
                return
            begun = _now()
            after = replace(self._record, renewed=self._record.renewed + 1, until=time.time() + self._record.seconds)
            try:
                version = self._cell.write(after.body(), self._version)
            except StorageError:
                return  # the next one may come through; until then the time runs
            if version is None:
                self._lost = True
            else:
                self._record, self._version, self._renewed = after, version, begun


def take(cell: Cell, patience: float) -> Lease:
    """Holds a name.

    Whoever finds a holder waits until that one is known to live, `patience` seconds at least, or is known to be gone.

    Raises:
      LockedError: another one has it.
    """
    begun, changes, first = _now(), -1, None
    while True:
        found = cell.read()
        record = None if found is None else _record(found.body)
        mark = None if record is None else record.mark
        if changes < 0 or mark != first:
            changes, first = changes + 1, mark
        waited = _now() - begun
        if not (changes and waited > patience) and (record is None or _is_free(cell, found, record)):
            asked, seconds = _now(), _seconds()
            fence = 1 if record is None else record.fence + 1
            own = _Record(secrets.token_hex(16), fence, 0, seconds, time.time() + seconds)
            version = cell.write(own.body(), None if found is None else found.version)
            if version is not None:
                return Lease(cell, own, version, asked)
            changes += 1  # whoever was faster lives
            continue
        if changes and waited >= patience:
            raise LockedError(f"{cell.said}: another process holds it")
        time.sleep(min(max((record.seconds if record else SECONDS) / 40, 0.02), 1.5))


def is_held(cell: Cell) -> bool:
    """True while someone holds the name, or may."""
    found = cell.read()
    return found is not None and not _is_free(cell, found, _record(found.body))


def holding(place: str) -> Lease | None:
    """The lease of this process on a place, if it has one."""
    return _held.get(place)


def holdings(below: str) -> list[Lease]:
    """All leases of this process whose place begins so."""
    return [lease for place, lease in list(_held.items()) if place.startswith(below)]


def _is_free(cell: Cell, found: Seen | None, record: _Record) -> bool:
    if not record.holder:
        return True
    if found is not None and time.time() - found.modified > record.seconds + SKEW:
        return True
    mark, since = _seen.get(cell.place, (None, 0.0))
    if mark != record.mark:
        _seen[cell.place] = record.mark, _now()
        return False
    return _now() - since > record.seconds


def _record(body: bytes) -> _Record:
    """What an object says; a damaged one is a holder's that never renews."""
    try:
        found = json.loads(body)
        return _Record(
            str(found["holder"]), int(found["fence"]), int(found["renewed"]), float(found["seconds"]), found["until"]
        )
    except (ValueError, KeyError, TypeError):
        return _Record("damaged", 0, 0, SECONDS, 0)


def _seconds() -> float:
    text = os.environ.get("PE_BEAM_LEASE_SECONDS", "")
    try:
        found = float(text) if text else SECONDS
    except ValueError:
        found = 0.0
    if not 1 <= found <= 3600:
        raise StorageError("PE_BEAM_LEASE_SECONDS: a number from 1 to 3600 is wanted")
    return found


def _now() -> float:
    """Seconds that also pass while this machine sleeps, where its system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
