"""The sources of a run, by name, as workers open them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pe_beam.contracts.source import Piece, Source
from pe_beam.contracts.store import Store
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import DataError, PeBeamError

UNCUT = "private/rejects/file.jsonl"
"""Which file stopped a run because it cannot be cut or read."""


def noted(store: Store, error: DataError, file: str) -> DataError:
    """Commits which file an error is about, which no message may name (rule 7). Returns an error that says where."""
    line = json.dumps({"where": file, "kind": str(error), "detail": ""}) + "\n"
    store.commit(UNCUT, line.encode(), replace=True)
    return type(error)(f"{error}; which file it is, is in {UNCUT}")


@dataclass(frozen=True)
class Cuttable:
    """A source that is cut.

    Attributes:
      source: the source.
      is_digested: whether its pieces are digested later (`Source.digested`).
      forgives: an error of this kind means that the source has no pieces, and stops nothing; None: every error stops.
    """

    source: Source
    is_digested: bool = False
    forgives: type[PeBeamError] | None = None


Opener = Callable[[Run], Mapping[str, Cuttable]]
"""Opens the sources of a run by name. A function of a module, because the graph contains its name alone."""
Pieces = tuple[str, list[Piece] | None]
"""The name of a source, and pieces of one of its files in order; None: the source could not be cut."""


@dataclass(frozen=True)
class Opened:
    """Opens a source of a run on a worker. A graph that holds this names no private path."""

    run_dir: str
    opener: Opener
    name: str

    def __call__(self) -> Source:
        """Returns the source."""
        return self.opener(open_run(self.run_dir))[self.name].source
