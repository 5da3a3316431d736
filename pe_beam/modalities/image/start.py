"""Questions of `pe-beam init` about images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam import registry
from pe_beam.contracts.asking import Asker, Seen, number

_LETTERS = 2  # of a label that may be a sign to draw


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Asks for generator and embedder, with their most important options. Returns these sections of a recipe."""
    del seen
    asker.say(
        "text-render draws the label as text, nearest-image takes the pictures of a public set, avatar draws cartoon "
        "faces, diffusers draws with a diffusion model. A program of your own, with its parameters, is written into "
        "the recipe by hand (docs/images.md)."
    )
    names = [name for name in registry.names_for("generators", "image") if name != "program"]
    generator: dict[str, Any] = {
        "name": asker.ask("generator.name", "The generator", choices=names, default="text-render")
    }
    if generator["name"] == "text-render" and not data.get("labels"):
        text = asker.ask("generator.texts", "There are no labels to draw. The text to draw", parse=_text)
        generator["texts"] = text if isinstance(text, dict) else {"": text}
    elif generator["name"] == "text-render" and any(len(str(label)) > _LETTERS for label in data["labels"]):
        asker.warn(
            "generator: text-render draws the label's letters, as suits digits and signs; pictures of anything else "
            "want nearest-image or diffusers, or a program that is written into the recipe by hand (docs/images.md)"
        )
    if generator["name"] == "diffusers":
        generator |= _model(asker)
    if generator["name"] == "nearest-image":
        generator["path"] = asker.ask("generator.path", "The folder of public pictures", parse=_text)
        generator["neighbours"] = {"from": 100, "to": 5, "decay": "geometric"}
    names = registry.names_for("embedders", "image")
    embedder: dict[str, Any] = {"name": asker.ask("embedder.name", "The embedder", choices=names, default="pixels")}
    if embedder["name"] == "pixels":
        side = number(0, 4096, whole=True)
        embedder["size"] = asker.ask("embedder.size", "Pixels a side at which to compare", parse=side, default=8)
        embedder["mode"] = asker.ask("embedder.mode", "Compare them in", choices=("gray", "rgb"), default="gray")
    else:
        embedder |= _own_files(asker, embedder["name"])
    if generator["name"] == "nearest-image":
        generator["embedder"] = dict(embedder)  # the distance is that of the votes
    return {"generator": generator, "embedder": embedder}


def _model(asker: Asker) -> dict[str, Any]:
    """Asks for a diffusion model and what it draws. Without a prompt the model is one without text."""
    model = asker.ask("generator.model", "Its folder, or its name on the hub", parse=_text)
    prompt = asker.ask(
        "generator.random.prompt", "What it is told to draw, with {label}; none: a model without text", optional=True
    )
    if prompt is None:
        return {"model": model}
    strength = number(0, 1)
    told = "How much a variation changes its parent, at first: above 0, up to 1"
    first = asker.ask("generator.vary.strength", told, parse=strength, default=0.9)
    return {"model": model, "random": {"prompt": prompt}, "vary": {"strength": first}}


def _own_files(asker: Asker, name: str) -> dict[str, Any]:
    """Asks for the model and its weights if an embedder requires them."""
    options = registry.find("embedders", name, key="embedder.name").Options.model_fields
    asked: dict[str, Any] = {}
    for key, question in (("model", "Its model"), ("weights", "Its weights")):
        if key in options and options[key].is_required():
            asked[key] = asker.ask(f"embedder.{key}", f"{question}: {options[key].description}", parse=_text)
    return asked


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("a text")
    return text
