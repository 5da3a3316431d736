"""Keeps private content out of what a failing worker says (DESIGN, privacy rule 7)."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from pe_beam.errors import PeBeamError, StageError
from pe_beam.storage import open_store


@contextlib.contextmanager
def guarded(root: str, stage: str) -> Iterator[None]:
    """Lets our own errors pass; of any other only its type and stage, the rest goes to private/errors/."""
    try:
        yield
    except PeBeamError:
        raise
    except Exception as error:
        with contextlib.suppress(PeBeamError):
            text = "".join(traceback.format_exception(error))
            open_store(root).commit(f"private/errors/{stage}.txt", text.encode(), replace=True)
        kind = type(error).__name__
        raise StageError(f"stage {stage} failed ({kind}); its trace is in private/errors/{stage}.txt") from None
