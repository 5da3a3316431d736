"""The files of a stream's directory.

stream.json            public: schedule, mu, statement
stream-ledger.jsonl    the holder's: a line for each window and iteration
recipe.yaml            resolved; the holder's
windows/START/         an ordinary run directory; its release is public once it is published
report.html            public: one page over the published windows
memory/START.parquet   noisy votes, for the windows after it; when it was written is the holder's
published/START.json   public: the window's release was published, at the instant that the schedule says
private/registry/      never shared, never purged: key, manifests, positions, clients
"""

from __future__ import annotations

import re

from pe_beam.contracts.store import Store
from pe_beam.recipe.windows import manifest_name

STREAM = "stream.json"
RECIPE = "recipe.yaml"
LEDGER = "stream-ledger.jsonl"
_WINDOW = r"\d{8}T\d{6}Z"


def window_dir(store: Store, name: str) -> str:
    """Returns the URI of a window's run directory."""
    return store.at(window_folder(name))


def window_folder(name: str) -> str:
    """Returns the folder of a window's run directory."""
    return f"windows/{name}"


def published_name(name: str) -> str:
    """Returns the file that says that a window is published."""
    return f"published/{name}.json"


def positions_name(name: str) -> str:
    """Returns the file of all positions up to a window."""
    return f"private/registry/positions/{name}.parquet"


def clients_name(name: str) -> str:
    """Returns the file of all clients' windows up to a window."""
    return f"private/registry/clients/{name}.parquet"


def finished_name(name: str) -> str:
    """Returns the file with the instant at which a window's run was done. It tells how long that took: private."""
    return f"private/registry/finished/{name}"


def closed_windows(store: Store) -> list[str]:
    """Returns the names of the windows whose members are committed, in order."""
    return _names(store, manifest_name(""))


def published_windows(store: Store) -> list[str]:
    """Returns the names of the published windows, in order."""
    return _names(store, published_name(""))


def _names(store: Store, pattern: str) -> list[str]:
    folder, ending = pattern.rsplit("/", 1)
    form = re.compile(rf"{re.escape(folder)}/({_WINDOW}){re.escape(ending)}")  # others may put files beside them
    return [found[1] for found in map(form.fullmatch, store.list_files(folder)) if found]
