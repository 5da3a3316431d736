"""Keeps answers from their arrival until their chunk is committed.

There is a folder per chunk, a file per process, and a line per answer. A kill loses no answer that has arrived. The
key of a line is the digest of the request, so a resume with the same requests pays for none of them twice.

On a store where each change is a request, a thread writes the answers that have come since it last wrote, as a file of
their own. Calls do not wait for it. A kill loses the answers that are on their way, those of a fraction of a second.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from types import TracebackType
from typing import Any

from pe_beam.contracts.store import Folder
from pe_beam.errors import PeBeamError, StorageError
from pe_beam.services.exchange import Exchange

_SUFFIX = ".jsonl"
_PAUSE = 0.2  # seconds between two writes of a thread


class Journal:
    """Key -> answer (plain JSON). Only one thread may use it at a time.

    Args:
      folder: the folder of the chunk. It is made when the first answer arrives. None: nothing is kept.
    """

    def __init__(self, folder: Folder | None) -> None:
        self._folder = folder
        self._own: str | None = None
        self._synced = 0.0
        self._waiting, self._written = list[bytes](), 0
        self._mutex, self._writing = threading.Lock(), threading.Lock()
        self._writer = Exchange(self._write, "journal", pause=_PAUSE)
        self._known = _read(folder) if folder is not None else {}

    def get(self, key: str) -> Any | None:
        """Returns the answer that was kept earlier, or None."""
        return self._known.get(key)

    def add(self, key: str, answer: Any) -> None:
        """Writes an answer to the file before it returns. It syncs the file if the last sync is half a second old."""
        if self._folder is None:
            return
        if self._own is None:
            self._own = f"{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}"
        line = (json.dumps([key, answer]) + "\n").encode()
        if self._folder.store.remote:
            self._writer.demand()
            with self._mutex:
                self._waiting.append(line)
            self._writer.ask()
            return
        durable = time.monotonic() - self._synced > 0.5
        self._folder.append(self._own, line, durable=durable)
        if durable:
            self._synced = time.monotonic()

    def forget(self) -> None:
        """Deletes all answers, because they cannot be used."""
        self._known = {}
        self._write()
        if self._folder is not None:
            for name in _files(self._folder):
                self._folder.delete(name)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        folder, own = self._folder, self._own
        if folder is not None and own is not None:
            if folder.store.remote:
                self._end(kind is None)
            elif folder.exists(own):
                folder.append(own, b"")
        self._own = None

    def _end(self, raises: bool) -> None:
        self._writer.close()
        try:
            self._write()
            self._writer.demand()
        except PeBeamError:
            if raises:  # another error is on its way otherwise
                raise

    def _write(self) -> None:
        """Writes the answers that wait, if any do."""
        with self._writing:
            with self._mutex:
                lines, self._waiting = self._waiting, []
            if lines and self._folder is not None:
                # A longer file would be read and written whole each time.
                self._folder.commit(f"{self._written:08d}-{self._own}", b"".join(lines))
                self._written += 1


def _files(folder: Folder) -> list[str]:
    return [name for name in folder.list_files() if name.endswith(_SUFFIX)]


def _read(folder: Folder) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in _files(folder):
        try:
            text = folder.read(name)
        except StorageError:
            if folder.exists(name):
                raise
            continue  # another process has committed the chunk
        for line in text.split(b"\n")[:-1]:  # an unterminated last line does not count
            key, answer = json.loads(line)
            known.setdefault(key, answer)
    return known
