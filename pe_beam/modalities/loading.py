"""Says what is wanted where a model cannot be loaded. A library's own message stays out: it may quote a path."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pe_beam.errors import MissingExtraError, PeBeamError, RecipeError


@contextlib.contextmanager
def loading(
    key: str,
    model: str,
    *,
    by: str,
    part: str,
    extra: str,
    folder: str = "a local folder",
    faults: tuple[type[Exception], ...] = (OSError, ValueError),
) -> Iterator[None]:
    """Turns what a library raises in the body into one error that says what to change. Our own errors pass.

    Args:
      key: the recipe key that names the model.
      model: the model, as the recipe names it.
      by: the library.
      part: who needs the library, for a package that is missing.
      extra: the extra that brings such packages.
      folder: what a folder has to be.
      faults: exceptions of the library that mean that the model cannot be loaded.

    Raises:
      MissingExtraError: a package is missing, or cannot be imported.
      RecipeError: the model cannot be loaded.
    """
    try:
        yield
    except PeBeamError:
        raise
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{part} needs the package {error.name or by!r}; install pe_beam[{extra}]") from None
    except ImportError as error:  # it is there: another version of it or of what it needs, or no memory to load it
        raise MissingExtraError(
            f"{part}: the package {error.name or by!r} is installed, but cannot be imported; install pe_beam[{extra}] "
            "anew, whose versions go together"
        ) from None
    except faults as error:
        raise RecipeError(
            f"{key}: {model!r} cannot be loaded by {by} ({type(error).__name__}); {folder}, or a hub name that this "
            "machine has or can reach, is wanted"
        ) from None


def check_weights(folder: Path, key: str, model: str, name: str = "") -> None:
    """Looks at the files of weights in a folder: a library finds out while it loads them, which takes long.

    Args:
      folder: the folder of one component.
      key: the recipe key that names the model.
      model: the model, as the recipe names it.
      name: the component's folder in it; empty: the model has one.

    Raises:
      RecipeError: there are none, or a file of safetensors is cut short.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
    if not files:
        place = f" in {name}" if name else ""
        raise RecipeError(f"{key}: {model!r} has no weights{place}; .safetensors or .bin is wanted")
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, "np"):
                    pass
            except SafetensorError:
                shown = f"{name}/{file.name}" if name else file.name
                raise RecipeError(f"{key}: {shown} of {model!r} is cut short or damaged; fetch it again") from None
