"""Checks that every process that embeds private records embeds like the first such process of the run (rule 13)."""

from __future__ import annotations

import json
import threading
import weakref

from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.selfcheck import self_check
from pe_beam.engine.run import Run
from pe_beam.errors import InputError

_checked: weakref.WeakKeyDictionary[Embedder, str | None] = weakref.WeakKeyDictionary()
_one_at_a_time = threading.Lock()


def hold_embedder(run: Run) -> None:
    """Checks this process's embedder, once, against its contract and the digest that the run has committed.

    The first process commits its own digest. The file name contains the embedding id, which differs between recipes.

    Raises:
      RecipeError: vectors depend on the other records of a batch here.
      InputError: this process gives other vectors than the first process.
    """
    digest = _digest(run.embedder)
    if digest is None:
        return
    name = f"private/embeddings/check_{run.embedding_id[:16]}.json"
    told = json.dumps({"version": 1, "digest": digest}).encode()
    if not run.store.exists(name):
        run.store.commit(name, told)
    if run.store.read(name) != told:
        raise InputError(
            "embedder: it gives made-up records other vectors here than where this run first embedded private records "
            "(other hardware, packages or weights); private records are embedded on machines of one kind: go on where "
            "the run began, or start a new run directory"
        )


def _digest(embedder: Embedder) -> str | None:
    with _one_at_a_time:
        if embedder not in _checked:
            _checked[embedder] = self_check(embedder)
        return _checked[embedder]
