"""Every process that embeds private records shows first that it embeds as the run's first one did (rule 13)."""

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
    """Holds this process's embedder to its contract, once, and to the digest that the run has committed.

    The first process commits its own. It is kept by embedding id: another recipe's embedder has another.

    Raises:
      RecipeError: vectors depend on their company here.
      InputError: this process embeds otherwise than the one that came first.
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
