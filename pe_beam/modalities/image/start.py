"""What `pe-beam init` asks about images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam import registry
from pe_beam.start.asking import Asker, number
from pe_beam.start.looking import Seen


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Generator and embedder by name, with the options that matter first."""
    del seen, data
    asker.say(
        "The generator that ships for images, text-render, draws the label as text. For photographs or scans name your "
        "own (docs/own-parts.md)."
    )
    names = [name for name in registry.names("generators") if name not in ("llm", "tabular")]
    generator = {"name": asker.ask("generator.name", "The generator", choices=names, default="text-render")}
    embedder: dict[str, Any] = {"name": asker.ask("embedder.name", "The embedder", default="pixels")}
    if embedder["name"] == "pixels":
        side = number(0, 4096, whole=True)
        embedder["size"] = asker.ask("embedder.size", "Pixels a side at which to compare", parse=side, default=8)
        embedder["mode"] = asker.ask("embedder.mode", "Compare them in", choices=("gray", "rgb"), default="gray")
    return {"generator": generator, "embedder": embedder}
