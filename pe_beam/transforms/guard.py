"""Keeps private content out of the error messages of a worker (DESIGN, privacy rule 7)."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from pe_beam.errors import PeBeamError, StageError
from pe_beam.storage import open_store


@contextlib.contextmanager
def guarded(root: str | None, stage: str) -> Iterator[None]:
    """Passes on a PeBeamError. Replaces any other error by one that holds only its type and its stage.

    Args:
      root: the store that gets the trace in `private/errors`; None: the trace is dropped.
      stage: the literal name of the stage.

    Raises:
      StageError: an error that is not a PeBeamError was raised.
    """
    try:
        yield
    except PeBeamError:
        raise
    except Exception as error:
        kind, where = type(error).__name__, ""
        if root is not None:
            with contextlib.suppress(PeBeamError):
                text = "".join(traceback.format_exception(error))
                open_store(root).commit(f"private/errors/{stage}.txt", text.encode(), replace=True)
            where = f"; its trace is in private/errors/{stage}.txt"
        raise StageError(f"stage {stage} failed ({kind}){where}") from None
