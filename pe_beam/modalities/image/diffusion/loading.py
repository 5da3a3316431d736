"""Loads a model from a path or a hub name, once per process."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.batches import Batches
from pe_beam.modalities.image.diffusion.options import DiffusersOptions, Placement
from pe_beam.modalities.image.diffusion.painter import Painter
from pe_beam.modalities.loading import loading


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


@functools.lru_cache(maxsize=4)  # a recipe may have several
def _cached(text: str) -> Loaded:
    options = DiffusersOptions.model_validate_json(text)
    with _loading(options.model):
        return Loaded(_painter(options), options.local.batch_size)


def look(options: DiffusersOptions) -> None:
    """Checks by configuration and file headers that a model is there, is whole, and is of the wanted kind.

    The weights are read where pictures are drawn, which may be another machine.

    Raises:
      MissingExtraError, RecipeError: as `load`.
    """
    with _loading(options.model):
        _check_kind(options, _class_name(options))
        if Path(_place(options)).is_dir():
            _check_files(Path(_place(options)))


_MODELS = ("unet", "transformer", "vae", "vqvae", "text_encoder", "text_encoder_2", "text_encoder_3")


def _check_files(folder: Path) -> None:
    """Raises OSError if a component of a local model has no weights, or has a file that is cut short."""
    from safetensors import SafetensorError, safe_open

    parts = [folder / name for name in _MODELS if (folder / name / "config.json").exists()]
    for part in parts or [folder]:
        files = [*part.glob("*.safetensors"), *part.glob("*.bin")]
        if not files:
            raise OSError(f"{part.name}: no weights")
        for file in files:
            if file.suffix == ".safetensors":
                try:
                    with safe_open(file, "np"):
                        pass
                except SafetensorError as error:
                    raise OSError(f"{file.name}: {error}") from None


def _painter(options: DiffusersOptions) -> Painter:
    name = _class_name(options)
    _check_kind(options, name)
    if options.random.prompt is not None:
        return _prompted(options)
    if name == "UNet2DModel":
        return _bare(options)
    return _unprompted(options)


def _class_name(options: DiffusersOptions) -> str:
    """Returns the class of the pipeline, or of a denoiser without one, from its configuration."""
    from diffusers import DiffusionPipeline, UNet2DModel

    place, revision = _place(options), options.local.revision
    if Path(place).is_dir() and not (Path(place) / "model_index.json").exists():
        return str(UNet2DModel.load_config(place).get("_class_name"))
    try:
        return str(DiffusionPipeline.load_config(place, revision=revision).get("_class_name"))
    except OSError:
        if Path(place).is_dir():
            raise
        return str(UNet2DModel.load_config(place, revision=revision).get("_class_name"))


def _place(options: DiffusersOptions) -> str:
    return str(Path(options.model).expanduser()) if options.model.startswith("~") else options.model


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
    if options.random.prompt is not None:
        _check_sibling(name)
    if options.local.compile and options.local.offload:
        raise RecipeError("generator.local: compile and offload do not go together")


def _check_sibling(name: str) -> None:
    """Raises RecipeError if there is no image-to-image form with a strength, which variations need."""
    from diffusers.pipelines import auto_pipeline

    find: Any = auto_pipeline._get_task_class
    mapping = auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    sibling = find(mapping, name, throw_error_if_not_exist=False)
    if sibling is None or "strength" not in inspect.signature(sibling.__call__).parameters:
        raise RecipeError(
            f"generator.model: {name} has no image-to-image form with a strength in diffusers, which variations want; "
            "another model, as Stable Diffusion, SDXL, SD3 or Flux"
        )


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
    """Returns the scheduler that the recipe names, with the model's configuration and the recipe's changes."""
    import diffusers

    name = options.scheduler or config["_class_name"]
    cls = getattr(diffusers, name, None)
    if cls is None:
        raise RecipeError(f"generator.scheduler: diffusers has no {name!r}; a class such as DDIMScheduler is wanted")
    unknown = sorted(set(options.scheduler_options) - set(cls._get_init_keys(cls)))
    if unknown:
        raise RecipeError(f"generator.scheduler_options: {name} has no {unknown[0]!r}")
    return cls.from_config(config, **options.scheduler_options)


def _check_scheduler(options: DiffusersOptions, scheduler: Any) -> None:
    """Raises RecipeError for a scheduler that cannot be used.

    A scheduler must not draw its own noise instead of a candidate's. It must be able to noise a picture, and must have
    as many levels as the recipe has steps.
    """
    name = type(scheduler).__name__
    if "noise_sampler_seed" in scheduler.config:
        raise RecipeError(f"generator.scheduler: {name} draws noise of its own, not a candidate's; another is wanted")
    wanted = ("add_noise", "scale_model_input", "init_noise_sigma") if options.random.prompt is None else ()
    missing = [each for each in wanted if not hasattr(scheduler, each)]
    if missing:
        raise RecipeError(f"generator.scheduler: {name} has no {missing[0]}, which models without text want")
    most, own = scheduler.config.get("num_train_timesteps"), options.vary.steps
    asked = own if isinstance(own, list) else [own.get("from"), own.get("to")] if isinstance(own, dict) else [own]
    steps = max(float(each) for each in (options.random.steps, *asked) if each is not None)
    if most is not None and steps > most:
        raise RecipeError(f"generator.random.steps, vary.steps: {steps:g} is more than the {most} levels of {name}")


def _placed(pipeline: Any, options: DiffusersOptions) -> Any:
    """Places a pipeline on its device, with the settings of the recipe."""
    local = options.local
    pipeline.set_progress_bar_config(disable=True)
    changed = options.scheduler is not None or options.scheduler_options
    if changed:
        pipeline.scheduler = _scheduler(options, pipeline.scheduler.config)
    _check_scheduler(options, pipeline.scheduler)
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
        pipeline = cls.from_pretrained(_place(options), **more)
        names = [f"adapter{i}" for i in range(len(options.adapters))]
        for name, adapter in zip(names, options.adapters, strict=True):
            _adapt(pipeline, name, adapter.path, adapter.weight_name)
        if names:
            pipeline.set_adapters(names, [float(adapter.scale) for adapter in options.adapters])
        pipeline = _placed(pipeline, options)
    if options.local.compile:
        _compile(pipeline)
    negative = options.random.negative_prompt is not None or options.vary.negative_prompt is not None
    return Prompted(pipeline, size=options.size, eta=options.eta, negative=negative)


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
        pipeline = _placed(cls.from_pretrained(_place(options), **_arguments(options.local)), options)
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
    """Loads a UNet2DModel without a pipeline. It works on pixels, and the recipe names its scheduler."""
    from diffusers import UNet2DModel

    _refuse_adapters(options)
    if options.scheduler is None:
        raise RecipeError("generator.scheduler: wanted where generator.model is a denoiser alone")
    if options.local.attention_slicing:
        raise RecipeError("generator.local.attention_slicing: of pipelines; generator.model is a denoiser alone")
    cls: Any = UNet2DModel
    with _quiet():
        denoiser = cls.from_pretrained(_place(options), **_arguments(options.local)).to(_device(options.local))
    denoiser = denoiser.eval()
    if options.local.compile:
        denoiser.compile()
    scheduler = _scheduler(options, {"_class_name": options.scheduler})
    _check_scheduler(options, scheduler)
    return _without_text(denoiser, scheduler, None, options)


def _without_text(denoiser: Any, scheduler: Any, autoencoder: Any, options: DiffusersOptions) -> Painter:
    from pe_beam.modalities.image.diffusion.unprompted import Unprompted

    if options.attention_heads is not None:
        _set_heads(denoiser, options.attention_heads)
    made = Unprompted(
        denoiser,
        scheduler,
        autoencoder,
        null_class=options.null_class,
        eta=options.eta,
        level_scale=options.level_scale,
    )
    if made.classes is None and options.classes is not None:
        raise RecipeError(f"generator.classes: {options.model!r} knows no classes")
    if not made.guided and (options.random.guidance is not None or options.vary.guidance is not None):
        raise RecipeError("generator.random.guidance: wants a model with classes, and null_class, the one for none")
    return made


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
    """Hides the progress bars of libraries while they load. Restores the host's settings afterwards."""
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


def _loading(model: str) -> contextlib.AbstractContextManager[None]:
    return loading(
        "generator.model",
        model,
        by="diffusers",
        part="generator.name: 'diffusers'",
        extra="image",
        folder="a folder that its save_pretrained has written",
        faults=(OSError, ValueError, KeyError, AttributeError),
    )
