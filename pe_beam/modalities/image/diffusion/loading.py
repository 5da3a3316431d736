"""Loads a model from a path or a hub name, once per process."""

from __future__ import annotations

import re
import threading
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.kept import kept
from pe_beam.modalities.image.diffusion.batches import Batches
from pe_beam.modalities.image.diffusion.known import known
from pe_beam.modalities.image.diffusion.looking import class_name, explained, look, place, scheduler_of
from pe_beam.modalities.image.diffusion.options import DiffusersOptions, Placement
from pe_beam.modalities.image.diffusion.painter import Painter
from pe_beam.modalities.quiet import quiet


class Loaded:
    """A model, its batches, and a lock, because Beam calls from several threads."""

    def __init__(self, painter: Painter, size: int) -> None:
        """Takes a model and the number of pictures per call."""
        self.painter, self.batches, self.lock = painter, Batches(size), threading.Lock()


def load(options: DiffusersOptions) -> Loaded:
    """Returns the model of some options. The first call loads it.

    Raises:
      MissingExtraError: a package is missing.
      RecipeError: the model cannot be loaded with these options, or is of another kind than the recipe says.
    """
    return _loaded(options.model_dump_json())


_LOADING = threading.Lock()


def _loaded(options: str) -> Loaded:
    with _LOADING:  # two threads at once would load it twice
        return _cached(options)


@kept(maxsize=4)  # a recipe may have several
def _cached(text: str) -> Loaded:
    options = DiffusersOptions.model_validate_json(text)
    look(options)  # what the files can tell is told by them, and not by the library's way of failing
    with explained(options, "whole weights that fit its config.json and this version of diffusers"):
        return Loaded(_painter(options), options.local.batch_size)


def _painter(options: DiffusersOptions) -> Painter:
    if options.random.prompt is not None:
        return _prompted(options)
    if class_name(options) == "UNet2DModel":
        return _bare(options)
    return _unprompted(options)


def _arguments(local: Placement) -> dict[str, Any]:
    import torch

    made: dict[str, Any] = {"dtype": getattr(torch, local.dtype), "revision": local.revision}
    made |= {"variant": local.variant, "device_map": local.device_map}
    return {name: value for name, value in made.items() if value is not None}


def find_place(local: Placement) -> str:
    """Returns the device of the recipe.

    Raises:
      RecipeError: it is not on this machine, or what the recipe asks for needs a GPU.
    """
    from pe_beam.modalities.exact import find_device

    device = str(find_device(local.device, key="generator.local.device"))
    if local.offload == "sequential" and device == "cpu":
        raise RecipeError("generator.local.offload: sequential wants a GPU, and the device is cpu; null is wanted")
    return device


def _device(local: Placement) -> str:
    from pe_beam.modalities.exact import make_exact

    device = find_place(local)
    make_exact(device)
    return device


def _placed(pipeline: Any, options: DiffusersOptions) -> Any:
    """Places a pipeline on its device, with the settings of the recipe."""
    local = options.local
    pipeline.set_progress_bar_config(disable=True)
    changed = options.scheduler is not None or options.scheduler_options
    if changed:
        pipeline.scheduler = scheduler_of(options, pipeline.scheduler.config)
    if local.attention_slicing:
        pipeline.enable_attention_slicing()
    device = _device(local)
    if local.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif local.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif local.device_map is None:
        pipeline = pipeline.to(device)
    return pipeline


def _prompted(options: DiffusersOptions) -> Painter:
    from diffusers import AutoPipelineForText2Image

    from pe_beam.modalities.image.diffusion.prompted import Prompted

    more = _arguments(options.local)
    if options.safety_checker == "off":
        more |= {"safety_checker": None, "requires_safety_checker": False}
    cls: Any = AutoPipelineForText2Image
    with quiet("diffusers", "transformers"):
        pipeline = cls.from_pretrained(place(options), **more)
        names = [f"adapter{i}" for i in range(len(options.adapters))]
        for name, adapter in zip(names, options.adapters, strict=True):
            _adapt(pipeline, name, adapter.path, adapter.weight_name)
        if names:
            pipeline.set_adapters(names, [float(adapter.scale) for adapter in options.adapters])
        pipeline = _placed(pipeline, options)
    if options.local.compile:
        _compile(pipeline)
    return Prompted(pipeline, size=options.size, eta=options.eta)


def _adapt(pipeline: Any, name: str, path: str, weight_name: str | None) -> None:
    where: dict[str, Any] = {"weight_name": weight_name} if weight_name else {}
    try:
        given = _named(pipeline, path, where)
        pipeline.load_lora_weights(path, adapter_name=name, **where)
        if all(name not in names for names in pipeline.get_list_adapters().values()):
            raise KeyError(name)  # of weights for other parts than this model has, diffusers only warns
    except (AttributeError, OSError, LookupError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"generator.adapters: {path!r} cannot be loaded into this model ({type(error).__name__}); LoRA weights of "
            "the same kind of model are wanted"
        ) from None
    if wrong := _unfit(pipeline, name, given):
        raise RecipeError(
            f"generator.adapters: {path!r} fits this model only in part: {len(wrong)} of its weights have no place in "
            f"it or lack their other half, such as {wrong[0]!r}; LoRA weights of the same kind of model are wanted"
        )


def _named(pipeline: Any, path: str, where: dict[str, Any]) -> list[str]:
    """Returns the names of the weights of an adapter, as diffusers translates those of other programs."""
    config = getattr(getattr(pipeline, "unet", None), "config", None)  # SDXL's blocks are renamed by it
    found = pipeline.lora_state_dict(path, unet_config=config, **where)
    names = found[0] if isinstance(found, tuple) else found
    return [each for each in names if "lora" in each and not each.endswith("alpha")]


def _unfit(pipeline: Any, name: str, given: list[str]) -> list[str]:
    """Returns weights of a loaded adapter that the model has no place for, or whose other half is missing.

    Of either, diffusers only warns. Names are of several conventions, so that their number decides.
    """
    import torch

    parts = {part: each for part, each in pipeline.components.items() if isinstance(each, torch.nn.Module)}
    taken = {f"{part}.{own}": each for part, model in parts.items() for own, each in model.named_parameters()}
    taken = {own: each for own, each in taken.items() if ".lora_" in own and f".{name}." in own}
    lacking = [own.replace(f".{name}.", ".") for own, each in taken.items() if each.is_meta]
    count = len(given) - (len(taken) - len(lacking))
    layers = {own.partition(".lora_")[0] for own in taken}
    first = [each for each in given if _layer(each) not in layers]
    return (first + given)[: max(count, 0)] + lacking


def _layer(weight: str) -> str:
    return re.split(r"[._]lora", weight.replace(".processor.", "."), maxsplit=1)[0]


def _unprompted(options: DiffusersOptions) -> Painter:
    from diffusers import DiffusionPipeline

    cls: Any = DiffusionPipeline
    with quiet("diffusers", "transformers"):
        pipeline = _placed(cls.from_pretrained(place(options), **_arguments(options.local)), options)
    denoiser: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if options.local.compile:
        denoiser.compile()
    autoencoder = getattr(pipeline, "vae", None) or getattr(pipeline, "vqvae", None)
    return _without_text(denoiser, pipeline.scheduler, autoencoder, options)


def _bare(options: DiffusersOptions) -> Painter:
    """Loads a UNet2DModel without a pipeline. It works on pixels, and the recipe names its scheduler."""
    from diffusers import UNet2DModel

    cls: Any = UNet2DModel
    with quiet("diffusers", "transformers"):
        denoiser = cls.from_pretrained(place(options), **_arguments(options.local)).to(_device(options.local))
    denoiser = denoiser.eval()
    if options.local.compile:
        denoiser.compile()
    scheduler = scheduler_of(options, {"_class_name": options.scheduler})
    return _without_text(denoiser, scheduler, None, options)


def _without_text(denoiser: Any, scheduler: Any, autoencoder: Any, options: DiffusersOptions) -> Painter:
    from pe_beam.modalities.image.diffusion.unprompted import Unprompted

    if options.attention_heads is not None:
        _set_heads(denoiser, options.attention_heads)
    facts = known(denoiser.config, None if autoencoder is None else autoencoder.config, options)
    return Unprompted(denoiser, scheduler, autoencoder, known=facts, eta=options.eta, level_scale=options.level_scale)


def _set_heads(denoiser: Any, heads: int) -> None:
    """Sets the number of heads of every attention.

    In diffusers' UNets all heads have one width. In improved-diffusion every width has the same number of heads.
    """
    from diffusers.models.attention_processor import Attention

    for part in denoiser.modules():
        if isinstance(part, Attention):
            if part.inner_dim % heads:
                raise RecipeError(f"generator.attention_heads: {part.inner_dim} channels do not divide into {heads}")
            part.heads, part.scale = heads, (part.inner_dim // heads) ** -0.5


def _compile(pipeline: Any) -> None:
    for name in ("unet", "transformer"):
        part = getattr(pipeline, name, None)
        if part is not None:
            part.compile()
