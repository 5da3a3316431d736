"""Opens the page in a browser without showing its address, and so its token, to other users of the machine.

What a process is started with can be seen by all of them. So the browser is given a file that only its owner can read,
which sends it on.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

_PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<meta http-equiv="refresh" content="0;url={0}"><title>pe-beam watch</title><a href="{0}">pe-beam watch</a></html>'
)


@contextlib.contextmanager
def opened(url: str) -> Iterator[bool]:
    """Opens a browser, and keeps the file that sends it on while the body runs. Yields whether one was found."""
    handle, name = tempfile.mkstemp(prefix="pe-beam-watch-", suffix=".html")  # for its owner alone
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(url))
        yield webbrowser.open(Path(name).as_uri())
    finally:
        Path(name).unlink(missing_ok=True)
