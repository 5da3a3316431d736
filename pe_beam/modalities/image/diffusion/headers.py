"""Compares the weights' files of a model on this disk with its configurations. Headers are read, and no weights.

Libraries only warn where weights are missing from a file, and put random ones in their place: another in each process,
and a run would spend its budget on noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.loading import WEIGHTS, Shapes, demand_all, misfit, tell, weights_in
from pe_beam.modalities.quiet import quiet

_MODELS = ("unet", "transformer", "vae", "vqvae", "text_encoder", "text_encoder_2", "text_encoder_3")
_KEY = "generator.model"
_NAME = "diffusion_pytorch_model"


def check_files(folder: Path, model: str, *, variant: str | None, without: tuple[str, ...] = ()) -> None:
    """Checks that all that a local model consists of is there, is whole and fits together.

    Args:
      folder: of a pipeline, or of a denoiser alone.
      model: the model as the recipe names it.
      variant: of the files, such as fp16.
      without: parts of the pipeline that are not loaded.

    Raises:
      RecipeError: a part is missing, a file is cut short, or weights are not those of the configuration beside them.
    """
    _check_parts(folder, model, without)
    parts = [folder / name for name in _MODELS if (folder / name / "config.json").exists()] or [folder]
    found = {part: weights_in(part, _KEY, model, part.name) for part in parts}
    if variant is not None and not any(f".{variant}." in name for files in found.values() for name in files):
        raise RecipeError(f"generator.local.variant: {model!r} has no file of {variant!r}; null, or fetch them")
    for part, files in found.items():
        own: Shapes = {}
        for name in _chosen(part, set(files), model, variant):
            shapes = files[name]
            own |= _read(part / name, model) if shapes is None else shapes
        if own:
            _check_fit(part, own, model)
    for part in found:
        _check_reader(part, model, variant)


def _check_parts(folder: Path, model: str, without: tuple[str, ...]) -> None:
    """Raises RecipeError if a folder is missing that model_index.json names. Old pipelines have files alone."""
    if not (folder / "model_index.json").exists() or (folder / "config.json").exists():
        return
    for name, kind in json.loads((folder / "model_index.json").read_text(encoding="utf-8")).items():
        wanted = isinstance(kind, list) and kind[0] is not None and name not in without
        if wanted and not (folder / name).is_dir():
            raise RecipeError(
                f"generator.model: {model!r} has no folder {name!r}, which its model_index.json names; fetch it as well"
            )


def _read(file: Path, model: str) -> Shapes:
    """Returns the shapes of the tensors of a .bin file."""
    import pickle

    import torch

    try:
        found = torch.load(file, map_location="meta", weights_only=True)
        return {name: tuple(each.shape) for name, each in found.items() if isinstance(each, torch.Tensor)}
    except (RuntimeError, EOFError, pickle.UnpicklingError, AttributeError):
        raise RecipeError(
            f"{_KEY}: {file.parent.name}/{file.name} of {model!r} is cut short, damaged or no plain tensors; fetch it "
            "again"
        ) from None


def _chosen(part: Path, names: set[str], model: str, variant: str | None) -> list[str]:
    """Returns the names of the files that diffusers will choose; none where that is not known."""
    for more in (f".{variant}", "") if variant is not None else ("",):
        for index in (f"{_NAME}.safetensors.index{more}.json", f"{_NAME}{more}.safetensors.index.json"):
            if (part / index).exists():
                told = json.loads((part / index).read_text(encoding="utf-8"))
                own = sorted(set(told["weight_map"].values()))
                if missing := [name for name in own if name not in names]:
                    raise RecipeError(f"generator.model: {model!r} has no {part.name}/{missing[0]}; fetch it as well")
                return own
        for suffix in WEIGHTS:
            if f"{_NAME}{more}{suffix}" in names:
                return [f"{_NAME}{more}{suffix}"]
    return []


def _check_fit(part: Path, found: Shapes, model: str) -> None:
    """Raises RecipeError if a model of diffusers lacks weights, or has some of another shape."""
    wanted = _wanted(part, found)
    wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
    if wrong:
        raise misfit(wrong, _KEY, model, part.name)


def _wanted(part: Path, found: Shapes) -> Shapes:
    """Returns the shapes that a model of this configuration has; none where only the loader knows.

    Old names of weights in `found` become those of today, as diffusers changes them.
    """
    import diffusers
    from accelerate import init_empty_weights
    from diffusers.models.modeling_utils import ModelMixin, no_init_weights

    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    cls: Any = getattr(diffusers, str(config.get("_class_name")), None)
    if not (isinstance(cls, type) and issubclass(cls, ModelMixin)) or "quantization_config" in config:
        return {}
    with (
        quiet("diffusers", "transformers", warnings=True),
        no_init_weights(),
        init_empty_weights(),
    ):  # as its loader does: no memory, a quarter of a second for SDXL
        made = cls.from_config(config)
    made._fix_state_dict_keys_on_load(found)
    return {name: tuple(each.shape) for name, each in made.named_parameters()}


def _check_reader(part: Path, model: str, variant: str | None) -> None:
    """Raises RecipeError if a model of transformers, as text encoders are, lacks weights or has some of another shape.

    Its library knows how names have changed, and says what it found.
    """
    import transformers

    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    cls: Any = getattr(transformers, str((config.get("architectures") or [None])[0]), None)
    if cls is None or "quantization_config" in config:
        return
    own = variant if any(f".{variant}." in file.name for file in part.iterdir()) else None
    demand_all(tell(cls, part, variant=own), _KEY, model, part.name)
