"""The file that `--html` names."""

from __future__ import annotations

from pathlib import Path

from pe_beam.errors import InputError


def demand_writable(path: str) -> None:
    """Raises InputError if a page cannot be written to a file. Called before what the page shows is paid for."""
    page = Path(path)
    new = not page.exists()
    try:
        with page.open("ab"):
            pass
        if new:
            page.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def write_html(path: str, page: bytes) -> None:
    """Writes a page to a file, which is replaced. Raises InputError if it cannot be written."""
    try:
        Path(path).write_bytes(page)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: str, error: OSError) -> InputError:
    return InputError(f"--html {path}: cannot be written ({error.strerror})")
