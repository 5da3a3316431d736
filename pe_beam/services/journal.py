"""Answers as they arrive, until the chunk that they belong to is committed.

A folder a chunk, a file a process, a line an answer: a kill loses none that had arrived. Lines are found again by
the digest of what was asked, so a resume that asks for the same things pays for none of them twice.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class Journal:
    """Key -> answer (plain JSON). Not for several threads at once.

    Args:
      folder: made when the first answer arrives; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._handle: int | None = None
        self._synced = 0.0
        self._known = _read(folder) if folder is not None and folder.is_dir() else {}

    def get(self, key: str) -> Any | None:
        """The answer that came before, or None."""
        return self._known.get(key)

    def add(self, key: str, answer: Any) -> None:
        """Keeps an answer: in the file before this returns, on the disk within half a second."""
        if self._folder is None:
            return
        if self._handle is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = self._folder / f"{os.getpid()}-{secrets.token_hex(6)}.jsonl"
            self._handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _write_all(self._handle, (json.dumps([key, answer]) + "\n").encode())
        if time.monotonic() - self._synced > 0.5:
            os.fdatasync(self._handle)
            self._synced = time.monotonic()

    def forget(self) -> None:
        """Drops what is kept here: the answers were of no use."""
        self._known = {}
        if self._folder is not None and self._folder.is_dir():
            for path in self._folder.glob("*.jsonl"):
                path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.fdatasync(self._handle)
            os.close(self._handle)
            self._handle = None


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _read(folder: Path) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for path in sorted(folder.glob("*.jsonl")):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            continue
        for line in text.split(b"\n")[:-1]:  # an unterminated last line was never written
            key, answer = json.loads(line)
            known.setdefault(key, answer)
    return known
