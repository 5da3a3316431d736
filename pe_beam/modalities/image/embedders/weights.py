"""Reads files of weights without running code in them, and puts weights into modules of the same names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError


def read_state(path: str | Path, *, key: str) -> dict[str, Any]:
    """Returns a state dict, name -> tensor on the CPU.

    Args:
      path: a `.safetensors` file, or a state dict that `torch.save` has written, also below the key `state_dict` or
        `model`. Torch's restricted unpickler reads only tensors.
      key: the recipe key, for messages.

    Raises:
      RecipeError: the file is not there, is damaged, or is not a state dict.
    """
    import torch

    file = Path(path).expanduser()
    if not file.is_file():
        raise RecipeError(f"{key}: {str(path)!r} is not a file; a file of weights (.pth or .safetensors) is wanted")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(str(file))
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise many kinds of exceptions for other files
        raise RecipeError(
            f"{key}: {str(path)!r} cannot be read as weights ({type(error).__name__}); a whole file of a state dict "
            "(.pth or .safetensors) is wanted"
        ) from None
    for wrapped in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapped), Mapping):
            found = found[wrapped]
    if not isinstance(found, Mapping) or not found or not all(torch.is_tensor(value) for value in found.values()):
        raise RecipeError(f"{key}: {str(path)!r} holds something else than weights; a state dict is wanted")
    return dict(found)


def fill(module: Any, state: Mapping[str, Any], *, key: str, aside: tuple[str, ...] = ()) -> None:
    """Gives a module its weights. The module may be on torch's device `meta`.

    Args:
      module: a torch module.
      state: name -> tensor.
      key: the recipe key, for messages.
      aside: prefixes of names that the file may have in addition to the module's names.

    Raises:
      RecipeError: names or shapes are those of another model.
    """
    import torch

    wanted = module.state_dict()
    given = {name: value for name, value in state.items() if name in wanted or not name.startswith(aside)}
    for name in wanted:
        if name.endswith("num_batches_tracked"):  # older files lack it, and nothing reads it
            given.setdefault(name, torch.tensor(0))
    missing = sorted(set(wanted) - set(given))
    other = sorted(set(given) - set(wanted))
    if missing or other:
        first = f"{missing[0]!r} is missing" if missing else f"{other[0]!r} is not of it"
        raise RecipeError(
            f"{key}: these weights are another model's: {len(missing)} of {len(wanted)} tensors are missing and "
            f"{len(other)} are not of it ({first})"
        )
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise RecipeError(
                f"{key}: these weights are another model's: {name!r} has shape {list(given[name].shape)} where "
                f"{list(value.shape)} is wanted"
            )
    module.load_state_dict(given, strict=True, assign=True)
