"""From a path or a hub's name to a loaded model, once a process."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.modalities.image.diffusion.batches import Batches
from pe_beam.modalities.image.diffusion.options import DiffusersOptions, Placement
from pe_beam.modalities.image.diffusion.painter import Painter


class Loaded:
    """A model with the number of pictures that fit, and a lock: Beam calls from several threads."""

    def __init__(self, painter: Painter, size: int) -> None:
        """Takes a model and the pictures a call."""
        self.painter, self.batches, self.lock = painter, Batches(size), threading.Lock()


def load(options: DiffusersOptions) -> Loaded:
    """The model of some options, loaded when it is first asked for.

    Raises:
      MissingExtraError: a package is missing.
      RecipeError: it cannot be loaded so, or is of another kind than the recipe says.
    """
    return _loaded(options.model_dump_json())


_LOADING = threading.Lock()


def _loaded(options: str) -> Loaded:
    with _LOADING:  # two threads at once would load it twice
        return _cached(options)


@functools.lru_cache(maxsize=1)
def _cached(text: str) -> Loaded:
    options = DiffusersOptions.model_validate_json(text)
    with _explained(options.model):
        return Loaded(_painter(options), options.local.batch_size)


def look(options: DiffusersOptions) -> None:
    """Reads the model's configuration, not its weights: packages and files are there, and it is of the wanted kind.

    Raises:
      MissingExtraError, RecipeError: as `load`.
    """
    with _explained(options.model):
        _check_kind(options, _class_name(options))


def _painter(options: DiffusersOptions) -> Painter:
    name = _class_name(options)
    _check_kind(options, name)
    if options.random.prompt is not None:
        return _prompted(options)
    if name == "UNet2DModel":
        return _bare(options)
    return _unprompted(options)


def _class_name(options: DiffusersOptions) -> str:
    """The class of the pipeline, or of a denoiser alone, by its configuration."""
    from diffusers import DiffusionPipeline, UNet2DModel

    revision = options.local.revision
    path = Path(options.model).expanduser()
    if path.is_dir() and not (path / "model_index.json").exists():
        config = UNet2DModel.load_config(str(path))
    else:
        config = DiffusionPipeline.load_config(options.model, revision=revision)
    return str(config.get("_class_name"))


def _takes_text(name: str) -> bool:
    from diffusers.pipelines import auto_pipeline

    known = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    return any(name == one.__name__ for one in known)


def _check_kind(options: DiffusersOptions, name: str) -> None:
    if options.random.prompt is not None and not _takes_text(name):
        raise RecipeError(
            f"generator.random.prompt: {options.model!r} is a {name}, which takes no text; null is wanted here, or a "
            "text-to-image model"
        )
    if options.random.prompt is None and _takes_text(name):
        raise RecipeError(f"generator.random.prompt: {options.model!r} is a {name}; a template is wanted")
    if options.local.compile and options.local.offload:
        raise RecipeError("generator.local: compile and offload do not go together")


def _arguments(local: Placement) -> dict[str, Any]:
    import torch

    made: dict[str, Any] = {"dtype": getattr(torch, local.dtype), "revision": local.revision}
    made |= {"variant": local.variant, "device_map": local.device_map}
    return {name: value for name, value in made.items() if value is not None}


def _device(local: Placement) -> str:
    import torch

    from pe_beam.modalities.exact import make_exact

    device = local.device or ("cuda" if torch.cuda.is_available() else "cpu")
    make_exact(device)
    return device


def _scheduler(options: DiffusersOptions, config: Any) -> Any:
    """The scheduler that the recipe names, with the configuration of the model's own but for the changes."""
    import diffusers

    name = options.scheduler or config["_class_name"]
    cls = getattr(diffusers, name, None)
    if cls is None:
        raise RecipeError(f"generator.scheduler: diffusers has no {name!r}; a class such as DDIMScheduler is wanted")
    unknown = sorted(set(options.scheduler_options) - set(cls._get_init_keys(cls)))
    if unknown:
        raise RecipeError(f"generator.scheduler_options: {name} has no {unknown[0]!r}")
    return cls.from_config(config, **options.scheduler_options)


def _placed(pipeline: Any, options: DiffusersOptions) -> Any:
    """A pipeline on its device, with what the recipe asks of it."""
    local = options.local
    pipeline.set_progress_bar_config(disable=True)
    changed = options.scheduler is not None or options.scheduler_options
    if changed:
        pipeline.scheduler = _scheduler(options, pipeline.scheduler.config)
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
    with _quiet():
        pipeline = cls.from_pretrained(options.model, **more)
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
    try:
        pipeline.load_lora_weights(path, adapter_name=name, **({"weight_name": weight_name} if weight_name else {}))
    except (AttributeError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"generator.adapters: {path!r} cannot be loaded into this model ({type(error).__name__}); LoRA weights of "
            "the same kind of model are wanted"
        ) from None


def _unprompted(options: DiffusersOptions) -> Painter:
    from diffusers import DiffusionPipeline

    _refuse_adapters(options)
    cls: Any = DiffusionPipeline
    with _quiet():
        pipeline = _placed(cls.from_pretrained(options.model, **_arguments(options.local)), options)
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if denoiser is None:
        raise RecipeError(
            f"generator.model: {options.model!r} is a {type(pipeline).__name__}, which has neither unet nor transformer"
        )
    if options.local.compile:
        denoiser.compile()
    autoencoder = getattr(pipeline, "vae", None) or getattr(pipeline, "vqvae", None)
    return _without_text(denoiser, pipeline.scheduler, autoencoder, options)


def _bare(options: DiffusersOptions) -> Painter:
    """A UNet2DModel alone: it works on pixels, and the recipe names its scheduler."""
    from diffusers import UNet2DModel

    _refuse_adapters(options)
    if options.scheduler is None:
        raise RecipeError("generator.scheduler: wanted where generator.model is a denoiser alone")
    cls: Any = UNet2DModel
    with _quiet():
        denoiser = cls.from_pretrained(options.model, **_arguments(options.local)).to(_device(options.local))
    denoiser = denoiser.eval()
    if options.local.compile:
        denoiser.compile()
    scheduler = _scheduler(options, {"_class_name": options.scheduler})
    return _without_text(denoiser, scheduler, None, options)


def _without_text(denoiser: Any, scheduler: Any, autoencoder: Any, options: DiffusersOptions) -> Painter:
    from pe_beam.modalities.image.diffusion.unprompted import Unprompted

    if options.attention_heads is not None:
        _set_heads(denoiser, options.attention_heads)
    return Unprompted(
        denoiser,
        scheduler,
        autoencoder,
        null_class=options.null_class,
        eta=options.eta,
        level_scale=options.level_scale,
    )


def _set_heads(denoiser: Any, heads: int) -> None:
    """diffusers' UNets have heads of one width, improved-diffusion's one number of heads at every width."""
    from diffusers.models.attention_processor import Attention

    for part in denoiser.modules():
        if isinstance(part, Attention):
            if part.inner_dim % heads:
                raise RecipeError(f"generator.attention_heads: {part.inner_dim} channels do not divide into {heads}")
            part.heads, part.scale = heads, (part.inner_dim // heads) ** -0.5


def _refuse_adapters(options: DiffusersOptions) -> None:
    if options.adapters:
        raise RecipeError("generator.adapters: for models that take text")


def _compile(pipeline: Any) -> None:
    for name in ("unet", "transformer"):
        part = getattr(pipeline, name, None)
        if part is not None:
            part.compile()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars that libraries draw while they load; the host's own settings come back."""
    from diffusers.utils import logging
    from transformers.utils import logging as other

    shown = [each for each in (logging, other) if each.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


@contextlib.contextmanager
def _explained(model: str) -> Iterator[None]:
    """What libraries raise, as what the recipe can mend."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"generator.name: 'diffusers' needs the package {error.name or 'diffusers'!r}; install pe_beam[image]"
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise RecipeError(
            f"generator.model: {model!r} cannot be loaded by diffusers ({type(error).__name__}); a folder that its "
            "save_pretrained has written, or a hub name that this machine can reach, is wanted"
        ) from None
