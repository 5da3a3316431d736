"""The temporary folders that Beam makes for what a job sends to its workers, two a job, and leaves where they are."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from apache_beam.transforms import environments

_made: ContextVar[list[str] | None] = ContextVar("_made", default=None)  # by the job of this thread
_beams = environments.python_sdk_dependencies


def _dependencies(options: Any, tmp_dir: str | None = None) -> Any:
    """Does what Beam's function does, in a folder that is known."""
    folders = _made.get()
    if tmp_dir is None and folders is not None:
        tmp_dir = tempfile.mkdtemp()
        folders.append(tmp_dir)
    return _beams(options, tmp_dir)


@contextlib.contextmanager
def unstaged() -> Iterator[None]:
    """Deletes such folders of a job when the body ends, which is when the job does: its files were sent before."""
    environments.python_sdk_dependencies = _dependencies
    folders: list[str] = []
    before = _made.set(folders)
    try:
        yield
    finally:
        _made.reset(before)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
