"""Options of the generator `diffusers`. All of them are public and shape the release, including `local`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pe_beam import contracts
from pe_beam.modalities.variables import LabelFields, LabelTexts, Part, Schedule, Variables
from pe_beam.numbers import Real, Whole

Class = Annotated[Whole, Field(ge=0)]
Prompt = str | dict[str, str]
"""A template, or one per label."""


class RandomPicture(Part):
    """A picture from nothing."""

    prompt: Prompt | None = Field(None, description="template, or label -> template; null: the model takes no text")
    negative_prompt: str | None = Field(None, description="what it should not show; template")
    guidance: Real | None = Field(
        None, ge=0, description="classifier-free guidance; null: the pipeline's own, none for models without text"
    )
    steps: Whole = Field(50, ge=1, le=10_000, description="denoising steps")


class PictureVariation(Part):
    """A variation of a parent: noised to a level and denoised. Schedules run over the iterations."""

    prompt: Prompt | list[str] | None = Field(
        None, description="template, label -> template, or a template an iteration; null: as in random"
    )
    negative_prompt: str | None = Field(None, description="template; null: as in random")
    guidance: Schedule | None = Field(None, description="null: as in random")
    steps: Schedule | None = Field(None, description="null: as in random")
    strength: Schedule | Literal["degree"] = Field(
        "degree", description="share of the steps that is done anew, from 0 to 1; degree: as evolution.degree says"
    )
    skip: Schedule | None = Field(
        None, description="in place of strength, for models without text: how many of the steps are left out"
    )
    redraw: Schedule = Field(0.0, description="probability that the parent's variables are drawn anew")


class Adapter(Part):
    """LoRA weights."""

    path: str = Field(description="folder, file or hub name")
    weight_name: str | None = Field(None, description="the file in it")
    scale: Real = Field(1.0, ge=0, description="1: as it was trained")


class Placement(Part):
    """How the model runs here."""

    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="of the weights")
    device: str | None = Field(
        None, pattern=r"^(cpu|mps|(cuda|xpu|npu)(:[0-9]+)?)$", description="null: cuda if it is there, else cpu"
    )
    device_map: Literal["balanced"] | None = Field(None, description="over all GPUs; in place of device")
    offload: Literal["model", "sequential"] | None = Field(
        None, description="weights stay in main memory: a part of the pipeline, or a layer, at a time on the device"
    )
    batch_size: Whole = Field(8, ge=1, le=4096, description="pictures at a time; halved where memory does not do")
    compile: bool = Field(False, description="torch.compile of the denoiser")
    attention_slicing: bool = Field(False, description="less memory, slower")
    revision: str | None = Field(None, description="of a hub's model")
    variant: str | None = Field(None, description="of the weights' files, such as fp16")

    @model_validator(mode="after")
    def _check(self) -> Placement:
        if self.device_map and (self.device or self.offload):
            raise ValueError("device_map: not together with device or offload")
        return self


class DiffusersOptions(contracts.Options):
    """Options of `diffusers`."""

    model: str = Field(
        description="a local path or hub name of a pipeline, or of a denoiser alone (a UNet2DModel)",
        json_schema_extra={"public": "name"},
    )
    random: RandomPicture = Field(
        default_factory=RandomPicture, description="from nothing", json_schema_extra={"public": True}
    )
    vary: PictureVariation = Field(
        default_factory=PictureVariation, description="near a parent", json_schema_extra={"public": True}
    )
    label_fields: LabelFields = Field(default_factory=list)
    label_texts: LabelTexts = Field(default_factory=dict)
    variables: Variables = Field(
        default_factory=dict, description="drawn for every random picture; a variation keeps its parent's"
    )
    classes: dict[str, Class | list[Class]] | None = Field(
        None,
        description="label -> the model's classes to draw from; null: any class for any label",
        json_schema_extra={"public": True},
    )
    null_class: Whole | None = Field(None, ge=0, description="the class that stands for none, for guidance")
    attention_heads: Whole | None = Field(
        None, ge=1, description="of every attention of a converted model (see docs/diffusion.md); null: its own"
    )
    level_scale: Real = Field(
        1.0, gt=0, description="levels are told to the denoiser times this: 0.25 where 4,000 were rescaled to 1,000"
    )
    size: tuple[Whole, Whole] | None = Field(
        None, description="[height, width] of prompted pictures, multiples of 8; null: the model's"
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]+Scheduler$",
        description="class of diffusers, such as DDIMScheduler; null: the model's own",
        json_schema_extra={"public": True},
    )
    scheduler_options: dict[str, Any] = Field(
        default_factory=dict, description="changes to its configuration", json_schema_extra={"public": False}
    )
    eta: Real = Field(0.0, ge=0, le=1, description="of DDIM: 0 without noise between steps")
    adapters: list[Adapter] = Field(
        default_factory=list, description="LoRA weights", json_schema_extra={"public": False}
    )
    safety_checker: Literal["keep", "off"] = Field(
        "keep", description="of pipelines that bring one; what it blackens is a rejected answer"
    )
    reasks: Whole = Field(2, ge=0, le=20, description="times that a rejected picture is asked for again")
    local: Placement = Field(default_factory=Placement, description="how the model runs here")

    @model_validator(mode="after")
    def _check(self) -> DiffusersOptions:
        for name, values in (*self.variables.items(), *(self.classes or {}).items()):
            if values == []:
                raise ValueError(f"{name}: at least one value")
        if self.size is not None and any(side < 8 or side % 8 for side in self.size):
            raise ValueError("size: multiples of 8, as pipelines want them")
        if self.vary.skip is not None and self.vary.strength != "degree":
            raise ValueError("vary: strength or skip, not both")
        if self.random.prompt is None and (self.vary.prompt is not None or self.variables):
            raise ValueError("random.prompt: wanted where there are variables or a prompt for variations")
        if self.random.prompt is not None and (self.vary.skip is not None or self.classes is not None):
            raise ValueError("vary.skip, classes: of models that take no text; random.prompt says that this one does")
        self._check_other_kind()
        return self

    def _check_other_kind(self) -> None:
        """Raises ValueError for options that a model with text, or one without, does not use."""
        text, none = self.random.prompt is not None, None
        without: dict[str, Any] = {
            "null_class": (self.null_class, none),
            "attention_heads": (self.attention_heads, none),
        }
        without |= {"level_scale": (self.level_scale, 1.0)}
        negatives = [part.negative_prompt for part in (self.random, self.vary) if part.negative_prompt is not None]
        by_text: dict[str, Any] = {
            "size": (self.size, none),
            "label_texts": (self.label_texts, {}),
            "adapters": (self.adapters, []),
        }
        by_text |= {"safety_checker": (self.safety_checker, "keep"), "local.offload": (self.local.offload, none)}
        by_text |= {"negative_prompt": (negatives, [])}
        for name, (given, usual) in (without if text else by_text).items():
            if given != usual:
                kind = "no text; random.prompt says that this one does" if text else "text; random.prompt is null"
                raise ValueError(f"{name}: of models that take {kind}")

    def classes_of(self, label: str | None) -> list[int] | None:
        """Returns the model's classes of a label; None: any class."""
        if self.classes is None:
            return None
        own = self.classes[str(label)]
        return list(own) if isinstance(own, list) else [own]
