"""Writes one form of a complete release to a path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_beam.errors import InputError, StorageError
from pe_beam.releases.reading import Release
from pe_beam.sharing import checklist, histograms, huggingface, registry
from pe_beam.sharing.facts import facts_of

ENDINGS = {"huggingface": "", "registry": ".yaml", "checklist": ".md", "histograms": ".csv"}
"""Form -> the ending of its path; "": a folder."""
_BY_ITERATION = ("huggingface", "histograms")


def share(
    release: Release,
    to: str | Path,
    form: str,
    *,
    iteration: int | None = None,
    promise: Mapping[str, Any] | None = None,
) -> None:
    """Writes a complete release in another form, from its own files alone.

    Args:
      release: from `pe_beam.open_release`.
      to: a folder, new or empty (huggingface), or a file that ends as `ENDINGS` says.
      form: huggingface, registry, checklist or histograms.
      iteration: of huggingface its population, 0 to T; of histograms that iteration alone, 1 to T, or 0 for what was
        measured before; None: the samples, the votes of all iterations.
      promise: epsilon, delta and statement of the stream that the release is a window of.

    Raises:
      InputError: the release is not complete or damaged, there is no such form or iteration, the path does not fit, or
        NOT-PRIVATE is missing in its name for a release that is not private.
      StorageError: the path cannot be written.
    """
    path = Path(to)
    _check(path, form, iteration)
    facts = facts_of(release, promise)
    if not facts.private and "NOT-PRIVATE" not in path.name:
        raise InputError(f"--to {to}: this run is NOT PRIVATE (epsilon = inf); a name with NOT-PRIVATE in it is wanted")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "huggingface":
            huggingface.write(release, facts, path, iteration)
        elif form == "histograms":
            histograms.write(release, path, iteration)
        else:
            text = registry.entry(facts) if form == "registry" else checklist.checklist(facts)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--to {to}: cannot be written ({error.strerror})") from error


def _check(path: Path, form: str, iteration: int | None) -> None:
    if form not in ENDINGS:
        raise InputError(f"--as {form}: not known; allowed: {', '.join(ENDINGS)}")
    if iteration is not None and form not in _BY_ITERATION:
        raise InputError(f"--iteration: not with --as {form}, which is about all of a release")
    ending = ENDINGS[form]
    if path.suffix != ending:
        wanted = f"a file that ends in {ending}" if ending else "a folder (no ending)"
        raise InputError(f"--to {path}: {wanted} is wanted for --as {form}")
    if not ending and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--to {path}: an empty or new folder is wanted")
