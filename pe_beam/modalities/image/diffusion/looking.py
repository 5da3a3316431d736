"""Checks a model by its configuration and the headers of its files. No weights are read.

What is wrong with a model or with what the recipe asks of it is told here, before private data are read.
"""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.headers import check_files
from pe_beam.modalities.image.diffusion.known import known
from pe_beam.modalities.image.diffusion.options import Adapter, DiffusersOptions
from pe_beam.modalities.loading import WEIGHTS, loading

_FOLDER = "a folder that its save_pretrained has written"


def look(options: DiffusersOptions) -> None:
    """Checks that a model is there, is whole, and is of the wanted kind, and that it can do what the recipe asks.

    The weights are read where pictures are drawn, which may be another machine.

    Raises:
      MissingExtraError: a package is missing.
      RecipeError: the model or an option does not do.
    """
    with explained(options, _FOLDER):
        name = class_name(options)
        _check_kind(options, name)
        if Path(place(options)).is_dir():
            without = ("safety_checker", "feature_extractor") if options.safety_checker == "off" else ()
            check_files(Path(place(options)), options.model, variant=options.local.variant, without=without)
        if name == "UNet2DModel":
            _look_at_denoiser(options)
        else:
            _look_at_pipeline(options, name)
    for adapter in options.adapters:
        _check_adapter(adapter)


def explained(options: DiffusersOptions, wanted: str) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which what diffusers raises becomes an error that says what is `wanted`."""
    return loading(
        "generator.model",
        options.model,
        by="diffusers",
        part="generator.name: 'diffusers'",
        extra="image",
        folder=wanted,
        faults=(OSError, ValueError, KeyError, AttributeError),
    )


def place(options: DiffusersOptions) -> str:
    """Returns the model's path or hub name."""
    return str(Path(options.model).expanduser()) if options.model.startswith("~") else options.model


def class_name(options: DiffusersOptions) -> str:
    """Returns the class of the pipeline, or of a denoiser without one, from its configuration.

    Raises:
      RecipeError: a folder has neither.
      OSError: there is no such folder, and the hub does not give it.
    """
    folder = Path(place(options))
    if folder.is_dir() and not (folder / "model_index.json").exists():
        if not (folder / "config.json").exists():
            raise RecipeError(
                f"generator.model: {options.model!r} has neither model_index.json, as a pipeline has, nor config.json, "
                f"as a denoiser has; {_FOLDER} is wanted"
            )
        return str(_config(options)["_class_name"])
    try:
        return str(_index(options)["_class_name"])
    except OSError:
        if folder.is_dir():
            raise
        return str(_config(options)["_class_name"])


def _index(options: DiffusersOptions) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    return dict(DiffusionPipeline.load_config(place(options), revision=options.local.revision))


def _config(options: DiffusersOptions, part: str | None = None) -> dict[str, Any]:
    """Returns the configuration of a denoiser alone or of a pipeline's part. Keys that it lacks have their defaults.

    Old pipelines keep the files of their only model beside model_index.json.
    """
    import diffusers

    reader: Any = diffusers.DDIMScheduler if part == "scheduler" else diffusers.UNet2DModel
    try:
        found = reader.load_config(place(options), revision=options.local.revision, subfolder=part)
    except OSError:
        if part is None:
            raise
        found = reader.load_config(place(options), revision=options.local.revision)
    taken = inspect.signature(getattr(diffusers, found["_class_name"]).__init__).parameters.values()
    usual = {each.name: each.default for each in taken if each.default is not inspect.Parameter.empty}
    return usual | dict(found)


def _look_at_denoiser(options: DiffusersOptions) -> None:
    """Checks a denoiser alone. It works on pixels, and the recipe names its scheduler."""
    if options.scheduler is None:
        raise RecipeError("generator.scheduler: wanted where generator.model is a denoiser alone")
    if options.local.attention_slicing:
        raise RecipeError("generator.local.attention_slicing: of pipelines; generator.model is a denoiser alone")
    _check_scheduler(options, scheduler_of(options, {"_class_name": options.scheduler}))
    known(_config(options), None, options)


def _look_at_pipeline(options: DiffusersOptions, name: str) -> None:
    index = _index(options)
    parts = [part for part, kind in index.items() if isinstance(kind, list) and kind[0] is not None]
    if "scheduler" in parts:
        _check_scheduler(options, scheduler_of(options, _config(options, "scheduler")))
    if options.random.prompt is not None:
        return
    denoisers = [part for part in ("unet", "transformer") if part in parts]
    if not denoisers:
        raise RecipeError(f"generator.model: {options.model!r} is a {name}, which has neither unet nor transformer")
    autoencoders = [part for part in ("vae", "vqvae") if part in parts]
    known(_config(options, denoisers[0]), _config(options, autoencoders[0]) if autoencoders else None, options)


def _check_adapter(adapter: Adapter) -> None:
    """Raises RecipeError if a local adapter is not there. One of the hub is found where the weights are read."""
    folder = Path(adapter.path)
    if not folder.exists() and folder.is_absolute():
        raise RecipeError(
            f"generator.adapters: {adapter.path!r} is not there; a folder or file of LoRA weights is wanted"
        )
    if folder.is_dir():
        files = [file.name for file in folder.iterdir() if file.suffix in WEIGHTS]
        if adapter.weight_name not in files if adapter.weight_name else not files:
            wanted = adapter.weight_name or ".safetensors or .bin"
            raise RecipeError(f"generator.adapters: {adapter.path!r} has no LoRA weights; {wanted} is wanted there")


def _check_kind(options: DiffusersOptions, name: str) -> None:
    if options.random.prompt is not None and not _takes_text(name):
        raise RecipeError(
            f"generator.random.prompt: {options.model!r} is a {name}, which takes no text; null is wanted here, or a "
            "text-to-image model"
        )
    if options.random.prompt is None and _takes_text(name):
        raise RecipeError(f"generator.random.prompt: {options.model!r} is a {name}; a template is wanted")
    if options.random.prompt is not None:
        _check_forms(options, name)
    if options.local.compile and options.local.offload:
        raise RecipeError("generator.local: compile and offload do not go together")


def _takes_text(name: str) -> bool:
    from diffusers.pipelines import auto_pipeline

    known = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    return any(name == one.__name__ for one in known)


def _check_forms(options: DiffusersOptions, name: str) -> None:
    """Raises RecipeError if a pipeline, or its image-to-image form for variations, lacks what the recipe uses."""
    from diffusers.pipelines import auto_pipeline

    find: Any = auto_pipeline._get_task_class
    sibling = find(auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, name, throw_error_if_not_exist=False)
    if sibling is None or "strength" not in inspect.signature(sibling.__call__).parameters:
        raise RecipeError(
            f"generator.model: {name} has no image-to-image form with a strength in diffusers, which variations want; "
            "another model, as Stable Diffusion, SDXL, SD3 or Flux"
        )
    if options.random.negative_prompt is None and options.vary.negative_prompt is None:
        return
    for form in (find(auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name), sibling):
        taken = inspect.signature(form.__call__).parameters
        if "negative_prompt" not in taken or "true_cfg_scale" in taken:
            raise RecipeError(f"generator.random.negative_prompt: {form.__name__} makes no use of it; null")


def scheduler_of(options: DiffusersOptions, config: Any) -> Any:
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
