"""Keeps answers from their arrival until their chunk is committed.

There is a folder per chunk, a file per process, and a line per answer; on a store where each change is a request, a
file per answer. A kill loses no answer that has arrived. The key of a line is the digest of the request, so a resume
with the same requests pays for none of them twice.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from types import TracebackType
from typing import Any

from pe_beam.contracts.store import Folder
from pe_beam.errors import StorageError

_SUFFIX = ".jsonl"


class Journal:
    """Key -> answer (plain JSON). Only one thread may use it at a time.

    Args:
      folder: the folder of the chunk. It is made when the first answer arrives. None: nothing is kept.
    """

    def __init__(self, folder: Folder | None) -> None:
        self._folder = folder
        self._own: str | None = None
        self._synced, self._added = 0.0, 0
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
        if self._folder.store.remote:  # a longer file would be read and written whole for each answer
            self._folder.commit(f"{self._added:08d}-{self._own}", line)
            self._added += 1
            return
        durable = time.monotonic() - self._synced > 0.5
        self._folder.append(self._own, line, durable=durable)
        if durable:
            self._synced = time.monotonic()

    def forget(self) -> None:
        """Deletes all answers, because they cannot be used."""
        self._known = {}
        if self._folder is not None:
            for name in _files(self._folder):
                self._folder.delete(name)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        folder, own = self._folder, self._own
        if folder is not None and own is not None and not folder.store.remote and folder.exists(own):
            folder.append(own, b"")
        self._own = None


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
