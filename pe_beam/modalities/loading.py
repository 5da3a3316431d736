"""Says what is wanted where a model cannot be loaded or lacks weights. Messages of libraries, with paths, stay out."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_beam.errors import MissingExtraError, PeBeamError, RecipeError
from pe_beam.modalities.quiet import quiet

_ONE_AT_A_TIME = threading.RLock()
WEIGHTS = (".safetensors", ".bin")
"""How the names of weights' files end."""
Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""


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

    One body runs at a time: transformers changes torch for as long as it loads, and a model that another thread loads
    meanwhile may lose weights.

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
        with _ONE_AT_A_TIME:
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


def weights_in(folder: Path, key: str, model: str, name: str = "") -> dict[str, Shapes | None]:
    """Reads the headers of the weights' files of one component: a library reads them late, after much else.

    Args:
      folder: the folder of the component.
      key: the recipe key that names the model.
      model: the model, as the recipe names it.
      name: the component's folder in it; empty: the model has one.

    Returns:
      File name -> the shapes of its tensors; None for .bin, which has no header.

    Raises:
      RecipeError: there are no files, or one of safetensors is cut short.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, Shapes | None] = {}
    for file in sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS):
        found[file.name] = None
        if file.suffix != ".safetensors":
            continue
        try:
            with safe_open(file, "np") as opened:
                names = opened.keys()
                found[file.name] = {each: tuple(opened.get_slice(each).get_shape()) for each in names}
        except SafetensorError:
            shown = f"{name}/{file.name}" if name else file.name
            raise RecipeError(f"{key}: {shown} of {model!r} is cut short or damaged; fetch it again") from None
    if not found:
        place = f" in {name}" if name else ""
        raise RecipeError(f"{key}: {model!r} has no weights{place}; {' or '.join(WEIGHTS)} is wanted")
    return found


def tell(cls: Any, path: str | Path, **about: Any) -> dict[str, Any]:
    """Returns what `transformers` tells of the weights of a model, for `demand_all`.

    On the device "meta" it compares names and shapes and reads no weights. Without the package accelerate, which that
    needs, it loads them.

    Args:
      cls: the class that loads the model.
      path: a folder or a hub name.
      about: more arguments of `from_pretrained`.
    """
    if has_meta():
        about["device_map"] = "meta"
    with quiet("transformers", warnings=True):
        _, told = cls.from_pretrained(path, output_loading_info=True, ignore_mismatched_sizes=True, **about)
    return dict(told)


def has_meta() -> bool:
    """Tells whether `tell` needs to read no weights."""
    return importlib.util.find_spec("accelerate") is not None


def demand_all(told: Mapping[str, Any], key: str, model: str, name: str = "") -> None:
    """Demands that `transformers` has found all weights of a model, each of its shape.

    It only warns where some are missing, and draws them at random, other ones in each process.

    Args:
      told: what `from_pretrained` returns beside the model with `output_loading_info`.
      key: the recipe key that names the model.
      model: the model, as the recipe names it.
      name: the component's folder in it; empty: the model has one.

    Raises:
      RecipeError: weights are missing or of another shape.
    """
    wrong = [*told["missing_keys"], *(each[0] for each in told["mismatched_keys"])]
    if wrong:
        raise misfit(sorted(wrong), key, model, name)


def misfit(wrong: Sequence[str], key: str, model: str, name: str = "") -> RecipeError:
    """Returns the error for the names of weights that are missing or of another shape. See `demand_all`."""
    many = f"{len(wrong)} weights are" if len(wrong) > 1 else "one weight is"
    place = f" in {name}" if name else ""
    return RecipeError(
        f"{key}: the weights{place} of {model!r} do not fit its config.json: {many} missing or of another shape, such "
        f"as {wrong[0]!r}; both of one model are wanted"
    )
