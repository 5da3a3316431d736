"""What Beam leaves behind of a job: two temporary folders, and connections that it keeps for the end of the process."""

from __future__ import annotations

import atexit
import contextlib
import functools
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
    """Deletes the folders of a job when the body ends, which is when the job does: its files were sent before."""
    environments.python_sdk_dependencies = _dependencies
    folders: list[str] = []
    before = _made.set(folders)
    try:
        yield
    finally:
        _made.reset(before)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


class _CleanupOf:
    """Equals what Beam has registered for the end of the process to clean up after a job."""

    def __init__(self, result: Any) -> None:
        self._result = result

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """Returns whether it is a call of a method of the job's result."""
        return isinstance(other, functools.partial) and getattr(other.func, "__self__", None) is self._result


def let_go(result: Any) -> None:
    """Frees the result of a job that is over, with its connections and messages: some 3 MB."""
    atexit.unregister(_CleanupOf(result))  # type: ignore[arg-type]
