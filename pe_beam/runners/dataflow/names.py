"""Names and labels of jobs: the same for one step of one run directory, whichever driver submits it."""

from __future__ import annotations

import re
import secrets

from pe_beam.contracts.store import Store
from pe_beam.errors import StorageError

MARK = "work/dataflow/mark"
PLACE = "work/dataflow/place"
"""Project and region of the latest driver."""
_ALLOWED = re.compile(r"[0-9a-f]{12}")
_STEP = 24  # characters of a step in a name; Dataflow allows 63 in all


def mark_of(store: Store) -> str:
    """Returns the run directory's own 12 hex digits. The first driver draws them, and they hold nothing of its path.

    Two run directories of one recipe share the run id, and a name of a job is one place in a project: only this keeps
    the one from attaching to a job of the other.

    Raises:
      StorageError: the file is damaged.
    """
    store.commit(MARK, secrets.token_hex(6).encode())
    found = store.read_committed(MARK).decode(errors="replace")
    if not _ALLOWED.fullmatch(found):
        raise StorageError(f"run directory: {MARK} is damaged; delete it once no job of this run is active on Dataflow")
    return found


def step_of(label: str) -> str:
    """Returns a graph's label as names allow it.

    >>> step_of("Iteration 07")
    'iteration-07'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower())[:_STEP].strip("-")


def job_name(label: str, run_id: str, mark: str) -> str:
    """Returns the name of a job.

    >>> job_name("Iteration 07", "9f86d081884c7d65", "0123456789ab")
    'pe-beam-iteration-07-9f86d081884c-0123456789ab'
    """
    return "-".join(part for part in ("pe-beam", step_of(label), run_id[:12], mark) if part)


def job_labels(label: str, run_id: str) -> dict[str, str]:
    """Returns a job's labels, which the console filters by and bills hold.

    >>> job_labels("Iteration 07", "9f86d081884c7d65")
    {'pe-beam-run': '9f86d081884c7d65', 'pe-beam-step': 'iteration-07'}
    """
    return {"pe-beam-run": run_id[:32], "pe-beam-step": step_of(label)}
