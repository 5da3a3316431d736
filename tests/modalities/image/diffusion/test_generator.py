"""The generator `diffusers` on tiny models of the real classes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from pe_beam import evolve, load_recipe
from pe_beam.contracts.generator import Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import MissingExtraError, RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.diffusion import loading
from pe_beam.modalities.image.diffusion.generator import Diffusers
from pe_beam.modalities.image.diffusion.options import DiffusersOptions
from pe_beam.modalities.image.diffusion.painter import Ask, Dials
from pe_beam.modalities.image.diffusion.prompted import Prompted
from pe_beam.testing import check_generator
from tests.modalities.image.diffusion import models

KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "pixels": (models.pixel_model, {}),
    "learned": (lambda folder: models.pixel_model(folder, classes=None, learned=True, channels=3), {}),
    "bare": (models.bare_model, {"scheduler": "DDPMScheduler"}),
    "dit": (models.dit_model, {}),
    "prompted": (models.stable_diffusion, {"random": {"prompt": "a {label}", "steps": 4}}),
    "sd3": (models.stable_diffusion_3, {"random": {"prompt": "a {label}", "steps": 2}}),
    "flux": (models.flux, {"random": {"prompt": "a {label}", "steps": 2}, "size": (16, 16)}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each model once."""
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = KINDS[kind][0](folder / kind)
        return made[kind]

    return get


def generator(path: Path, labels: list[str | None] = ["x", "y"], **options: Any) -> Diffusers:  # noqa: B006
    given = {"model": str(path), "random": {"steps": 4}, "local": {"batch_size": 4}} | options
    return Diffusers(DiffusersOptions.model_validate(given), labels=labels)


def rngs(count: int, purpose: str = "random") -> list[np.random.Generator]:
    return [keyed_rng(0, 1, i, purpose) for i in range(count)]


def pixels(table: pa.Table, mode: str) -> np.ndarray:
    return np.stack([np.asarray(decode_image(data, mode=mode)) for data in table["image"].to_pylist()])


def parents(made: pa.Table, labels: list[str | None]) -> pa.Table:
    return made.append_column("label", pa.array(labels, pa.string()))


def ask(label: str, state: dict[str, Any], row: int, attempt: int = 0, purpose: str = "random") -> Ask:
    """What the generator asks of its model, by the same keys."""
    key = int(keyed_rng(0, 1, row, purpose).integers(1 << 62))
    seed = int(keyed_rng(key, 0, -1, f"noise/{attempt}").integers(1 << 62))
    return Ask(seed=seed, prompt=state.get("prompt"), kind=state.get("class"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(kind: str, saved: Callable[[str], Path]) -> None:
    """Each picture to the bit, whatever stands beside it."""
    own = generator(saved(kind), **KINDS[kind][1])
    own.ready()
    check_generator(own, MODALITY, labels=["x", "y"])


def test_random_pictures_are_those_of_the_bare_pipeline(saved: Callable[[str], Path]) -> None:
    from diffusers import DiTPipeline, StableDiffusionPipeline

    made = generator(saved("prompted"), **KINDS["prompted"][1]).random(["x"] * 4, rngs(4))
    seeds = [ask("x", {}, row).seed for row in range(4)]
    noises = [torch.Generator().manual_seed(seed) for seed in seeds]
    pipe: Any = StableDiffusionPipeline.from_pretrained(saved("prompted"))
    bare = pipe(prompt=["a x"] * 4, num_inference_steps=4, generator=noises, output_type="np").images
    assert np.array_equal(pixels(made, "RGB"), np.rint(np.clip(bare, 0, 1) * 255).astype(np.uint8))

    made = generator(saved("dit"), random={"steps": 4, "guidance": 3.0}).random(["x"] * 4, rngs(4))
    classes = [json.loads(state)["class"] for state in made["state"].to_pylist()]
    noises = [torch.Generator().manual_seed(seed) for seed in seeds]
    dit: Any = DiTPipeline.from_pretrained(saved("dit"))
    real = torch.tensor
    with pytest.MonkeyPatch.context() as patch:  # the pipeline takes 1000 for no class, and this model has 5
        patch.setattr(torch, "tensor", lambda data, *a, **k: real([5] * 4 if data == [1000] * 4 else data, *a, **k))
        bare = dit(classes, guidance_scale=3.0, num_inference_steps=4, generator=noises, output_type="np").images
    assert np.array_equal(pixels(made, "RGB"), np.rint(bare * 255).astype(np.uint8))


def test_variations_by_text_are_those_of_image_to_image(saved: Callable[[str], Path]) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline
    from PIL import Image

    own = generator(
        saved("prompted"), **KINDS["prompted"][1], vary={"strength": [0.9, 0.5], "prompt": ["b", "c {label}"]}
    )
    old = parents(own.random(["x"] * 4, rngs(4)), ["x"] * 4)
    made = own.vary(old, Step(iteration=2, iterations=2, degree=1.0), rngs(4, "vary"))
    assert set(made["state"].to_pylist()) == {'{"prompt":"c x"}'}
    noises = [torch.Generator().manual_seed(ask("x", {}, row, purpose="vary").seed) for row in range(4)]
    pipe: Any = StableDiffusionImg2ImgPipeline.from_pretrained(saved("prompted"))
    given = [Image.fromarray(each) for each in pixels(old, "RGB")]
    bare = pipe(
        prompt=["c x"] * 4, image=given, strength=0.5, num_inference_steps=4, generator=noises, output_type="np"
    ).images
    assert np.array_equal(pixels(made, "RGB"), np.rint(np.clip(bare, 0, 1) * 255).astype(np.uint8))


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_transformers_by_text_draw_as_their_bare_pipelines_do(
    kind: str, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import FluxImg2ImgPipeline, FluxPipeline, StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline
    from PIL import Image

    one: Any = FluxPipeline if kind == "flux" else StableDiffusion3Pipeline
    two: Any = FluxImg2ImgPipeline if kind == "flux" else StableDiffusion3Img2ImgPipeline
    own = generator(saved(kind), **KINDS[kind][1], vary={"strength": 0.5})
    old = parents(own.random(["x"] * 4, rngs(4)), ["x"] * 4)
    painter: Any = loading.load(own._options).painter
    monkeypatch.setattr(painter._random, "vae_scale_factor", 16)
    with pytest.raises(
        RecipeError, match=r"generator\.size: \[24, 32\] is not allowed; multiples of (16|32) are wanted"
    ):
        Prompted(painter._random, size=(24, 32), eta=0.0)
    monkeypatch.undo()
    told: dict[str, Any] = {"prompt": ["a x"] * 4, "height": 16, "width": 16, "num_inference_steps": 2}
    told |= {"output_type": "np"}

    def noises(purpose: str) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(ask("x", {}, row, purpose=purpose).seed) for row in range(4)]

    bare = one.from_pretrained(saved(kind))(**told, generator=noises("random")).images
    assert np.array_equal(pixels(old, "RGB"), np.rint(np.clip(bare, 0, 1) * 255).astype(np.uint8))
    made = own.vary(old, Step(iteration=1, iterations=1, degree=1.0), rngs(4, "vary"))
    given = [Image.fromarray(each) for each in pixels(old, "RGB")]
    bare = two.from_pretrained(saved(kind))(**told, image=given, strength=0.5, generator=noises("vary")).images
    assert np.array_equal(pixels(made, "RGB"), np.rint(np.clip(bare, 0, 1) * 255).astype(np.uint8))


def test_a_variation_noises_to_a_level_and_denoises(saved: Callable[[str], Path]) -> None:
    """Against the formulas of DDIM (arXiv 2010.02502, equation 12, eta 0), written out."""
    from diffusers import DDIMPipeline

    own = generator(saved("pixels"), vary={"skip": [3], "steps": 5})
    old = parents(own.random(["x"] * 4, rngs(4)), ["x"] * 4)
    made = own.vary(old, Step(iteration=1, iterations=1, degree=1.0), rngs(4, "vary"))
    classes = [json.loads(state)["class"] for state in old["state"].to_pylist()]
    assert [json.loads(state)["class"] for state in made["state"].to_pylist()] == classes, "it keeps its class"
    pipe: Any = DDIMPipeline.from_pretrained(saved("pixels"))
    pipe.scheduler.set_timesteps(5)
    levels = pipe.scheduler.timesteps[3:].tolist()
    x = torch.from_numpy(pixels(old, "L")[:, None].astype(np.float32) / 127.5 - 1)
    noise = torch.cat([
        torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(ask("x", {}, row, purpose="vary").seed))
        for row in range(4)
    ])  # fmt: skip
    kept = pipe.scheduler.alphas_cumprod
    x = kept[levels[0]].sqrt() * x + (1 - kept[levels[0]]).sqrt() * noise
    with torch.inference_mode():
        for level in levels:
            predicted = pipe.unet(x, torch.tensor([level] * 4), class_labels=torch.tensor(classes)).sample
            clean = ((x - (1 - kept[level]).sqrt() * predicted) / kept[level].sqrt()).clamp(-1, 1)
            before = level - 100 // 5
            to = kept[before] if before >= 0 else pipe.scheduler.final_alpha_cumprod
            x = to.sqrt() * clean + (1 - to).sqrt() * predicted
    expected = np.rint((x / 2 + 0.5).clamp(0, 1).numpy()[:, 0] * 255)
    assert np.abs(pixels(made, "L") - expected).max() <= 1  # sums in another order


@pytest.mark.parametrize("kind", ["pixels", "dit", "prompted"])
def test_nothing_is_done_anew_where_strength_is_zero(kind: str, saved: Callable[[str], Path]) -> None:
    own = generator(saved(kind), **KINDS[kind][1])
    old = parents(own.random(["x", "y"], rngs(2)), ["x", "y"])
    made = own.vary(old, Step(iteration=1, iterations=1, degree=0.0), rngs(2, "vary"))
    assert made["image"].to_pylist() == old["image"].to_pylist()


def test_variables_are_kept_or_drawn_anew(saved: Callable[[str], Path]) -> None:
    words = {"tone": ["a", "b", "c", "d", "e", "f", "g", "h"]}
    for redraw, same in ((0.0, 4), (1.0, 0)):
        own = generator(
            saved("prompted"),
            random={"prompt": {"x": "one {tone}", "y": "two {tone}"}, "steps": 2, "negative_prompt": "not {label}"},
            variables=words,
            vary={"redraw": redraw},
        )
        old = parents(own.random(["x", "y"] * 2, rngs(4)), ["x", "y"] * 2)
        made = own.vary(old, Step(iteration=1, iterations=1, degree=0.5), rngs(4, "vary"))
        before, after = ([json.loads(s) for s in t["state"].to_pylist()] for t in (old, made))
        assert all(state["prompt"] == f"{word} {state['variables']['tone']}" for state, word in
                   zip(after, ["one", "two"] * 2, strict=True))  # fmt: skip
        kept = sum(a["variables"] == b["variables"] for a, b in zip(before, after, strict=True))
        assert kept == 4 if same else kept < 4


class Greedy:
    """A painter that has memory for `most` pictures."""

    def __init__(self, painter: Any, most: int, error: Exception) -> None:
        self._painter, self._most, self._error, self.sizes = painter, most, error, list[int]()
        self.mode, self.classes = painter.mode, painter.classes

    def paint(self, asks: Any, dials: Dials) -> Any:
        self.sizes.append(len(asks))
        if len(asks) > self._most:
            raise self._error
        return self._painter.paint(asks, dials)


def swap(own: Diffusers, monkeypatch: pytest.MonkeyPatch, painter: Callable[[Any], Any], size: int) -> Any:
    """The generator's model behind another painter."""
    found = loading.Loaded(painter(loading.load(own._options).painter), size)
    monkeypatch.setattr("pe_beam.modalities.image.diffusion.generator.load", lambda options: found)
    return found.painter


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.parametrize("kind", ["pixels", "prompted"])
def test_out_of_memory_halves_the_batch_and_goes_on(
    kind: str, error: Exception, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = generator(saved(kind), **KINDS[kind][1], local={"batch_size": 8})
    whole = pixels(own.random(["x"] * 9, rngs(9)), "RGB").astype(int)
    painter = swap(own, monkeypatch, lambda real: Greedy(real, 3, error), 8)
    halved = pixels(own.random(["x"] * 9, rngs(9)), "RGB").astype(int)
    assert painter.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert np.abs(whole - halved).max() <= 2, "gray levels"
    own.random(["x"] * 2, rngs(2))
    assert painter.sizes[7:] == [2], "the smaller batch stays"


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")
def test_an_autoencoder_of_raised_precision_comes_back_where_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL decodes in float32, and would keep its autoencoder so if decoding raised."""
    prompt, local = {"prompt": "a {label}", "steps": 2}, {"dtype": "float16", "batch_size": 2}
    own = generator(models.stable_diffusion_xl(tmp_path), random=prompt, local=local)
    whole = pixels(own.random(["x"] * 2, rngs(2)), "RGB").astype(int)
    autoencoder = loading.load(own._options).painter._random.vae  # type: ignore[attr-defined]
    decode, precisions = autoencoder.decode, list[torch.dtype]()

    def decode_one(latents: torch.Tensor, **more: Any) -> Any:
        precisions.append(autoencoder.dtype)
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latents, **more)

    monkeypatch.setattr(autoencoder, "decode", decode_one)
    before, to = list[torch.dtype](), autoencoder.to
    monkeypatch.setattr(autoencoder, "to", lambda *a, **k: (before.append(autoencoder.dtype), to(*a, **k))[1])
    halved = pixels(own.random(["x"] * 2, rngs(2)), "RGB").astype(int)
    assert precisions == [torch.float32] * 3, "one batch of two that failed, two of one"
    assert autoencoder.dtype == torch.float16 and before[::2] == [torch.float16] * 3, "each batch began in half"
    assert np.abs(whole - halved).max() <= 8, "gray levels, in half precision"


def test_out_of_memory_with_one_picture_is_said(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    own = generator(saved("pixels"))
    swap(own, monkeypatch, lambda real: Greedy(real, 0, torch.OutOfMemoryError("no")), 4)
    with pytest.raises(StageError, match=r"generator\.local: out of memory with one picture at a time"):
        own.random(["x"], rngs(1))


def test_another_error_is_not_taken_for_memory(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    own = generator(saved("pixels"))
    painter = swap(own, monkeypatch, lambda real: Greedy(real, 0, RuntimeError("shapes differ")), 4)
    with pytest.raises(RuntimeError, match="shapes differ"):
        own.random(["x"], rngs(1))
    assert painter.sizes == [4]


class Broken:
    """A painter whose answers are rejected for some seeds, or always."""

    def __init__(self, painter: Any, kind: str, share: float) -> None:
        self._painter, self._kind, self._share = painter, kind, share
        self.mode, self.classes = painter.mode, painter.classes

    def paint(self, asks: Any, dials: Dials) -> Any:
        bad = [ask.seed / 2**62 < self._share for ask in asks]
        return [self._kind if no else one for no, one in zip(bad, self._painter.paint(asks, dials), strict=True)]


def test_rejected_pictures_are_asked_for_again_then_something_stands_in(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = generator(saved("pixels"), reasks=1)
    swap(own, monkeypatch, lambda real: Broken(real, "safety checker", 0.6), 4)
    old = parents(own.random(["x"] * 16, rngs(16)), ["x"] * 16)
    found = own.summary(old)
    assert found["rejected_answers"]["safety checker"] > found["stand_ins"] > 0
    made = own.vary(old, Step(iteration=1, iterations=1, degree=0.5), rngs(16, "vary"))
    states = [json.loads(state) for state in made["state"].to_pylist()]
    assert any(state.get("stand_in") for state in states)
    for state, before, after in zip(states, old["image"].to_pylist(), made["image"].to_pylist(), strict=True):
        assert (before == after) == bool(state.get("stand_in"))


def test_what_stands_in_at_random_is_of_the_same_label(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = generator(saved("pixels"), reasks=0, classes={"x": 0, "y": 1})
    swap(own, monkeypatch, lambda real: Broken(real, "safety checker", 0.6), 4)
    labels: list[str | None] = ["x", "y"] * 8
    made = own.random(labels, rngs(16)).to_pylist()
    states = [json.loads(row["state"]) for row in made]
    assert any(state.get("stand_in") for state in states)
    for row, state, label in zip(made, states, labels, strict=True):
        assert state["class"] == (0 if label == "x" else 1)
        if state.get("stand_in"):
            twins = [at for at, other in enumerate(made) if other["image"] == row["image"]]
            assert {labels[at] for at in twins} == {label}


def test_a_small_strength_does_one_step(saved: Callable[[str], Path]) -> None:
    for kind in ("pixels", "prompted"):
        own = generator(saved(kind), **KINDS[kind][1], vary={"strength": 0.1})
        old = parents(own.random(["x"], rngs(1)), ["x"])
        made = own.vary(old, Step(iteration=1, iterations=1, degree=1.0), rngs(1, "vary"))
        assert made["image"].to_pylist() != old["image"].to_pylist()


def test_parents_of_several_sizes_do_not_change_each_other(saved: Callable[[str], Path]) -> None:
    from pe_beam.modalities.image.codec import encode_png

    images = [encode_png(np.full((side, side, 3), side, np.uint8)) for side in (8, 40, 16)]
    table = pa.table({"state": pa.nulls(3, pa.string()), "image": images, "label": ["x"] * 3})
    for kind in ("pixels", "prompted"):
        own = generator(saved(kind), **KINDS[kind][1])
        step = Step(iteration=1, iterations=1, degree=0.5)
        whole = own.vary(table, step, rngs(3, "vary"))
        alone = own.vary(table.slice(1, 1), step, [keyed_rng(0, 1, 1, "vary")])
        assert whole["image"][1] == alone["image"][0]
        sizes = [np.asarray(decode_image(data, mode="RGB")).shape for data in whole["image"].to_pylist()]
        assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (64, 64)}, "size: of models that take text"),
        ({"safety_checker": "off"}, "safety_checker: of models that take text"),
        ({"random": {"negative_prompt": "x"}}, "negative_prompt: of models that take text"),
        ({"local": {"offload": "model"}}, "offload: of models that take text"),
        ({"random": {"prompt": "a"}, "level_scale": 0.25}, "level_scale: of models that take no text"),
        ({"classes": {"x": -1, "y": 0}}, "greater than or equal to 0"),
        ({"random": {"prompt": "a"}, "size": (20, 16)}, "size: multiples of 8"),
    ],
)
def test_what_a_model_makes_no_use_of_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        generator(Path("nowhere"), **options)


def test_what_only_the_model_tells_is_refused_before_it_draws(saved: Callable[[str], Path]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"random": {"guidance": 3.0}}, r"generator\.random\.guidance: wants a model with classes"),
        ({"random": {"steps": 200}}, r"200 is more than the 100 levels of DDIMScheduler"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, r"generator\.scheduler: FlowMatch\w+ has no "),
        ({"null_class": 2}, r"generator\.classes: wanted beside null_class; without it 2 would be drawn"),
        ({"null_class": 3}, r"generator\.null_class: 3 is not allowed; 0 to 2 is wanted"),
        ({"null_class": 2, "classes": {"x": [0, 2], "y": 1}}, r"generator\.classes: 2 is null_class"),
        ({"null_class": 2, "classes": {"x": 0, "y": 2}}, r"generator\.classes: 2 is null_class"),
        ({"classes": {"x": 7, "y": 1}}, r"generator\.classes: 7 is not one of the model's classes 0 to 2"),
        ({"scheduler": "NoScheduler"}, r"generator\.scheduler: diffusers has no 'NoScheduler'"),
        (
            {"scheduler": "DDIMScheduler", "scheduler_options": {"colour": 1}},
            r"generator\.scheduler_options: DDIMScheduler has no 'colour'",
        ),
    ]
    for options, said in cases:
        with pytest.raises(RecipeError, match=said):
            generator(saved("pixels"), **options).ready()
    with pytest.raises(RecipeError, match=r"generator\.classes: .* knows no classes"):
        generator(saved("learned"), classes={"x": 0, "y": 1}).ready()
    with pytest.raises(RecipeError, match=r"generator\.scheduler: wanted where generator\.model is a denoiser alone"):
        generator(saved("bare")).ready()
    with pytest.raises(RecipeError, match=r"generator\.classes: 'z' is not one of data\.labels"):
        generator(saved("pixels"), classes={"x": 0, "y": 1, "z": 2})


def test_pictures_that_are_never_finite_are_said(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from diffusers import DDIMPipeline

    pipe: Any = DDIMPipeline.from_pretrained(saved("pixels"))
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    pipe.save_pretrained(tmp_path / "nan")
    with pytest.raises(StageError, match=r"none of 2 pictures could be used \(not finite\).*generator\.local\.dtype"):
        generator(tmp_path / "nan").random(["x"] * 2, rngs(2))


def test_a_black_picture_of_the_safety_checker_is_rejected(tmp_path: Path) -> None:
    path = models.stable_diffusion(tmp_path, safety=True)
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(path)
    pipe.safety_checker.concept_embeds_weights.data.fill_(-10.0)  # everything is beyond its threshold
    pipe.save_pretrained(tmp_path / "strict")
    prompt = {"prompt": "a", "steps": 2}
    with pytest.raises(StageError, match=r"\(safety checker\)"):
        generator(tmp_path / "strict", [None], random=prompt, reasks=0).random([None], rngs(1))
    off = generator(tmp_path / "strict", [None], random=prompt, safety_checker="off")
    assert off.random([None], rngs(1)).num_rows == 1


def test_lora_weights_change_the_pictures(saved: Callable[[str], Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    pipe: Any = StableDiffusionPipeline.from_pretrained(saved("prompted"))
    torch.manual_seed(1)
    pipe.unet.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    weights = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(pipe.unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=weights)
    made = []
    for adapters in (
        [],
        [{"path": str(tmp_path / "lora"), "scale": 0}],
        [{"path": str(tmp_path / "lora"), "scale": 5}],
    ):
        own = generator(saved("prompted"), **KINDS["prompted"][1], adapters=adapters)
        made.append(pixels(own.random(["x"] * 2, rngs(2)), "RGB").astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    assert np.abs(made[0] - made[2]).max() > 2
    with pytest.raises(RecipeError, match=r"generator\.adapters: .*cannot be loaded"):
        other = [{"path": str(saved("pixels") / "unet")}]
        generator(saved("prompted"), **KINDS["prompted"][1], adapters=other).random(["x"], rngs(1))
    # And of a kind of model whose denoiser has another name: diffusers only warns.
    weights = load_file(tmp_path / "lora/pytorch_lora_weights.safetensors")
    renamed = {name.replace("unet.", "transformer."): value for name, value in weights.items()}
    save_file(renamed, tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match=r"generator\.adapters: .*cannot be loaded"):
        other = [{"path": str(tmp_path / "other.safetensors")}]
        generator(saved("prompted"), **KINDS["prompted"][1], adapters=other).random(["x"], rngs(1))


_LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"unet.nowhere.lora_A.weight": (2, 8), "unet.nowhere.lora_B.weight": (8, 2)}, r"2 of .* 'unet\.nowhere\.lora"),
        ({"text_encoder_2.a.lora_A.weight": (2, 8)}, r"1 of its weights .* as 'text_encoder_2\.a\.lora_A"),
        (
            {
                f"text_encoder.{layer}.self_attn.q_proj.lora_linear_layer.{end}.weight": shape
                for layer in ("encoder.layers.0", "encoder.layers.9")
                for end, shape in (("down", (2, 16)), ("up", (16, 2)))
            },
            r"2 of its weights .* as 'text_encoder\.encoder\.layers\.9",
        ),
        ({f"{_LAYER}.lora_A.weight": None}, rf"1 of its weights .* lack their other half, such as '{_LAYER}\.lora_A"),
    ],
)
def test_lora_weights_that_fit_in_part_are_refused(
    odd: dict[str, Any], said: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    # diffusers warns of the first and the last alone.
    shapes = dict.fromkeys([f"{_LAYER}.lora_A.weight"], (2, 16)) | {f"{_LAYER}.lora_B.weight": (16, 2)} | odd
    save_file({name: torch.ones(shape) for name, shape in shapes.items() if shape}, tmp_path / "part.safetensors")
    own = generator(saved("prompted"), **KINDS["prompted"][1], adapters=[{"path": str(tmp_path / "part.safetensors")}])
    with pytest.raises(RecipeError, match=rf"generator\.adapters: .*part.safetensors' fits .* in part: {said}"):
        own.random(["x"], rngs(1))


def test_lora_weights_of_no_layer_of_a_text_encoder_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    names = (f"text_encoder.nowhere.lora_linear_layer.{end}.weight" for end in ("down", "up"))
    save_file({name: torch.ones((2, 2)) for name in names}, tmp_path / "other.safetensors")
    own = generator(saved("prompted"), **KINDS["prompted"][1], adapters=[{"path": str(tmp_path / "other.safetensors")}])
    with pytest.raises(RecipeError, match=r"generator\.adapters: .*cannot be loaded into this model \(IndexError\)"):
        own.random(["x"], rngs(1))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("prompted", {f"{_LAYER}.lora_A.weight": (2, 16), f"{_LAYER}.lora_B.weight": (16, 2)}),
        ("prompted", {f"{_LAYER}.lora.down.weight": (2, 16), f"{_LAYER}.lora.up.weight": (16, 2)}),
        (
            "prompted",
            {
                f"lora_unet_{_LAYER[5:].replace('.', '_')}.{end}": shape
                for end, shape in (("lora_down.weight", (2, 16)), ("lora_up.weight", (16, 2)), ("alpha", ()))
            },
        ),
        (
            "prompted",
            {
                f"text_encoder.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{end}.weight": shape
                for end, shape in (("down", (2, 16)), ("up", (16, 2)))
            },
        ),
        (
            "sd3",
            {
                f"transformer.transformer_blocks.0.attn.to_q.{end}.weight": shape
                for end, shape in (("lora_A", (2, 16)), ("lora_B", (16, 2)))
            },
        ),
        (
            "flux",
            {
                f"transformer.transformer_blocks.0.attn.to_q.{end}.weight": shape
                for end, shape in (("lora_A", (2, 32)), ("lora_B", (32, 2)))
            },
        ),
    ],
)
def test_lora_weights_by_the_names_of_other_programs_are_taken(
    kind: str, names: dict[str, Any], saved: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    save_file({name: torch.ones(shape) for name, shape in names.items()}, tmp_path / "own.safetensors")
    own = generator(saved(kind), **KINDS[kind][1], adapters=[{"path": str(tmp_path / "own.safetensors")}])
    assert own.random(["x"], rngs(1)).num_rows == 1


@pytest.mark.parametrize("kind", ["pixels", "prompted"])
def test_schedulers_by_name(kind: str, saved: Callable[[str], Path]) -> None:
    for name, options in (("EulerDiscreteScheduler", {}), ("DDPMScheduler", {"clip_sample": False})):
        own = generator(saved(kind), **KINDS[kind][1], scheduler=name, scheduler_options=options)
        check_generator(own, MODALITY, labels=["x", "y"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"random": {"prompt": {"x": "one"}}}, r"generator\.random\.prompt: no template for label 'y'"),
        ({"random": {"prompt": {"x": "1", "y": "2", "z": "3"}}}, r"prompt: 'z' is not one of data\.labels"),
        ({"random": {"prompt": "a {tone}"}}, r"generator\.random\.prompt: \{tone\} is not known; allowed: label"),
        ({"random": {"prompt": "a {"}}, r"generator\.random\.prompt: not a template"),
        ({"classes": {"x": 1}}, r"generator\.classes: none for label 'y'"),
        ({"label_texts": {"z": "?"}, "random": {"prompt": "a"}}, r"label_texts: 'z' is not one"),
    ],
)
def test_a_prompt_or_class_that_is_missing_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        generator(Path("nowhere"), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vary": {"strength": [0.5]}}, r"generator\.vary\.strength: .*list of 2 numbers"),
        ({"vary": {"strength": [0.5, 1.5]}}, r"generator\.vary\.strength: 1.5 is not allowed; from 0 to 1"),
        ({"vary": {"skip": [1, 5]}}, r"generator\.vary\.skip: 5 is more than there are steps"),
        ({"vary": {"skip": [1, 1.5]}}, r"generator\.vary\.skip: 1.5 is not allowed; whole numbers"),
        ({"vary": {"steps": 0}}, r"generator\.vary\.steps: 0 is not allowed; whole numbers"),
        ({"random": {"prompt": "a"}, "vary": {"prompt": ["a"]}}, r"vary\.prompt: 1 templates where 2 iterations are"),
    ],
)
def test_schedules_have_to_fit(options: dict[str, Any], said: str) -> None:
    own = generator(Path("nowhere"), **{"random": {"steps": 4}, **options})
    with pytest.raises(RecipeError, match=said):
        own.attach(Surroundings(iterations=2, service=Service(), folder=None))


def test_models_that_are_not_there_or_of_another_kind(saved: Callable[[str], Path], tmp_path: Path) -> None:
    prompt = {"random": {"prompt": "a"}}
    cases = [
        (generator(tmp_path / "none"), r"generator\.model: .*cannot be loaded by diffusers \(OSError\)"),
        (generator(tmp_path), r"generator\.model: .* has neither model_index\.json"),
        (generator(saved("prompted"), **prompt, adapters=[{"path": "/no/lora"}]), r"adapters: '/no/lora' is not there"),
        (
            generator(saved("prompted"), **prompt, adapters=[{"path": str(tmp_path)}]),
            r"adapters: .* has no LoRA weights",
        ),
        (generator(saved("pixels"), **prompt), r"generator\.random\.prompt: .* is a DDIMPipeline, which takes no text"),
        (
            generator(saved("flux"), random={"prompt": "a", "negative_prompt": "b"}),
            r"random\.negative_prompt: FluxPipeline makes no use of it",
        ),
        (generator(saved("prompted")), r"random\.prompt: .*StableDiffusionPipeline; a template is wanted"),
    ]
    for own, said in cases:
        with pytest.raises(RecipeError, match=said):
            own.ready()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", r"has no weights in unet; \.safetensors or \.bin is wanted"),
        ("cut", r"unet/diffusion_pytorch_model\.safetensors of .* is cut short or damaged; fetch it again"),
        ("cut bin", r"unet/diffusion_pytorch_model\.bin of .* is cut short, damaged or no plain tensors"),
        ("other", r"the weights in unet of .* do not fit its config\.json: \d weights are missing or of another shape"),
        (
            "names",
            r"do not fit its config\.json: 145 weights are missing or of another shape, such as 'conv_in.weight'",
        ),
        ("no part", r"has no folder 'scheduler', which its model_index\.json names"),
        ("no shard", r"has no unet/b\.safetensors; fetch it as well"),
        ("no json", r"cannot be loaded by diffusers"),
    ],
)
def test_weights_that_are_damaged(damage: str, said: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Of a file that lacks names diffusers would warn alone, and draw with random weights."""
    shutil.copytree(saved("pixels"), tmp_path / "model")
    unet = tmp_path / "model/unet"
    weights = unet / "diffusion_pytorch_model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "cut bin":
        torch.save(load_file(weights), unet / "diffusion_pytorch_model.bin")
        weights.unlink()
        (unet / "diffusion_pytorch_model.bin").write_bytes((unet / "diffusion_pytorch_model.bin").read_bytes()[:3000])
    elif damage == "other":
        shutil.copy(saved("learned") / "unet/diffusion_pytorch_model.safetensors", weights)
    elif damage == "names":
        save_file({f"module.{name}": value for name, value in load_file(weights).items()}, weights)
    elif damage == "no part":
        shutil.rmtree(tmp_path / "model/scheduler")
    elif damage == "no shard":
        index = {"weight_map": {"a": weights.name, "b": "b.safetensors"}}
        (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (unet / "config.json").write_text("{")
    for act in (generator(tmp_path / "model").ready, lambda: generator(tmp_path / "model").random(["x"], rngs(1))):
        with pytest.raises(RecipeError, match=r"generator\.model: .*" + said):
            act()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("saved_as", ["variant", "bin", "shards"])
def test_whole_models_pass_however_they_are_saved(
    kind: str, saved_as: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline, UNet2DModel

    cls: Any = UNet2DModel if kind == "bare" else DiffusionPipeline
    more: dict[str, Any] = {
        "variant": {"variant": "fp16"},
        "bin": {"safe_serialization": False},
        "shards": {"max_shard_size": "20KB"},
    }[saved_as]
    cls.from_pretrained(saved(kind)).save_pretrained(tmp_path / "again", **more)
    local = {"variant": "fp16"} if saved_as == "variant" else {}
    own = generator(tmp_path / "again", **KINDS[kind][1], local={"batch_size": 4, **local})
    own.ready()
    assert own.random(["x"], rngs(1)).num_rows == 1


def test_a_variant_a_tokenizer_or_words_that_are_missing(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Without its folder a tokenizer of no words is made."""
    shutil.copytree(saved("prompted"), tmp_path / "model")
    own = generator(tmp_path / "model", random={"prompt": "a"}, local={"variant": "fp16"})
    with pytest.raises(RecipeError, match=r"generator\.local\.variant: .* has no file of 'fp16'"):
        own.ready()
    words = tmp_path / "model/text_encoder/model.safetensors"
    whole = load_file(words)
    for fault in ("names", "less", "size"):
        named = {f"module.{name}" if fault == "names" else name: value for name, value in whole.items()}
        if fault == "less":
            del named["final_layer_norm.bias"]
        elif fault == "size":
            named["final_layer_norm.bias"] = torch.zeros(3)
        save_file(named, words, metadata={"format": "pt"})
        with pytest.raises(RecipeError, match=r"weights in text_encoder of .* do not fit its config\.json: (20|one) "):
            generator(tmp_path / "model", random={"prompt": "a"}).ready()
    save_file({f"text_model.{name}": value for name, value in whole.items()}, words, metadata={"format": "pt"})
    generator(tmp_path / "model", random={"prompt": "a"}).ready()  # as older versions of the library wrote it
    shutil.rmtree(tmp_path / "model/tokenizer")
    with pytest.raises(RecipeError, match=r"generator\.model: .* has no folder 'tokenizer'"):
        generator(tmp_path / "model", random={"prompt": "a"}).ready()


def test_an_old_pipeline_keeps_its_files_in_its_folder(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As google/ddpm-cifar10-32 does, with a configuration that lacks the keys that came later."""
    shutil.copy(saved("pixels") / "model_index.json", tmp_path)
    for part in ("unet", "scheduler"):
        for file in (saved("pixels") / part).iterdir():
            shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["resnet_time_scale_shift"], config["dropout"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights, old = tmp_path / "diffusion_pytorch_model.safetensors", dict[str, torch.Tensor]()
    for name, value in load_file(weights).items():
        then = name.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value")
        old[then.replace("to_out.0", "proj_attn")] = value
    save_file(old, weights)
    own = generator(tmp_path)
    own.ready()
    assert own.random(["x"], rngs(1)).num_rows == 1


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ({"device": "xpu:9"}, r"generator\.local\.device: 'xpu:9' is not on this machine"),
        ({"device": "cpu", "offload": "sequential"}, r"generator\.local\.offload: sequential wants a GPU"),
    ],
)
def test_a_device_that_is_not_there_is_named(local: dict[str, str], said: str, saved: Callable[[str], Path]) -> None:
    own = generator(saved("prompted"), random={"prompt": "a"}, local=local)
    own.ready()  # on a machine that only starts a job on others
    with pytest.raises(RecipeError, match=said):
        own.ready_here()
    with pytest.raises(RecipeError, match=said):
        own.random(["x"], rngs(1))


@pytest.mark.parametrize("wrapped", ["alone", "several", "filtered", "embedder"])
def test_a_run_on_this_machine_tells_of_the_device_before_it_reads(
    wrapped: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    own = {"name": "diffusers", "model": str(saved("learned")), "local": {"device": "xpu:9"}}
    data = {"source": "folder", "path": str(tmp_path / "is-never-looked-at")}
    recipe: dict[str, Any] = {
        "name": "elsewhere",
        "data": data,
        "modality": "image",
        "generator": own,
        "embedder": {"name": "pixels", "size": 4, "mode": "gray"},
        "evolution": {"iterations": 1, "samples": 2, "degree": [0.5], "threshold": 0},
        "privacy": {"epsilon": 1, "delta": 1e-5, "adjacency": "add-or-remove-one", "unit": "record"},
    }
    if wrapped == "several":
        del recipe["generator"]
        other = {"name": "text-render", "side": 8, "any_text": ["a"]}
        recipe["generators"] = [{"name": "a", "generator": other}, {"name": "b", "generator": own}]
    elif wrapped == "filtered":
        recipe["evolution"]["filters"] = [{"name": "python", "function": "builtins:bool"}]
    elif wrapped == "embedder":
        del own["local"]
        recipe["embedder"] = {"name": "efficientnet-lite0", "device": "xpu:9"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    key = "embedder.device" if wrapped == "embedder" else "generator.local.device"
    with pytest.raises(RecipeError, match=rf"{key}: 'xpu:9' is not on this machine"):
        evolve(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")


def test_a_package_that_is_missing_or_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'diffusers'; install pe_beam\[image\]"):
        generator(Path("anything")).ready()
    monkeypatch.setitem(sys.modules, "diffusers", ModuleType("diffusers"))
    with pytest.raises(MissingExtraError, match=r"'diffusers' is installed, but cannot be imported; install pe_beam\["):
        generator(Path("anything")).ready()


def test_half_precision_gives_the_same_picture_in_the_same_shape(saved: Callable[[str], Path]) -> None:
    own = generator(saved("pixels"), local={"dtype": "bfloat16", "batch_size": 4})
    check_generator(own, MODALITY, labels=["x", "y"])
