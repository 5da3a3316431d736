"""A generator of bright discs on black, and an embedder that looks at how large and how bright a picture's light is."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.codec import decode_image


class DiscsOptions(contracts.Options):
    """What a recipe may say below `generator:`. The descriptions end up in error messages and editors."""

    side: int = Field(32, ge=8, le=512, description="pixels")
    radius: tuple[float, float] = Field((0.05, 0.45), description="range of radii, in sides")


class Discs(contracts.Generator):
    """Draws one disc; its radius and brightness are the state that variations start from."""

    modality = "image"  # a recipe of another modality is refused
    Options = DiscsOptions

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        self._own = DiscsOptions.model_validate(options.model_dump())
        low, high = self._own.radius
        if not 0 < low < high <= 0.5:
            raise RecipeError(f"generator.radius: [{low}, {high}] is not allowed; 0 < low < high <= 0.5 is wanted")

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """A row a label. All chance comes from the row's own generator, so batches cannot change a row."""
        return self._table([{"radius": rng.uniform(*self._own.radius), "light": rng.uniform(0.3, 1)} for rng in rngs])

    def vary(self, parents: pa.Table, step: contracts.Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """A row a parent: each value moves by up to `degree` of its range, and stays inside it."""
        states = []
        for text, rng in zip(parents["state"].to_pylist(), rngs, strict=True):
            old = json.loads(text)
            states.append({
                "radius": _moved(old["radius"], *self._own.radius, step.degree, rng),
                "light": _moved(old["light"], 0.3, 1, step.degree, rng),
            })  # fmt: skip
        return self._table(states)

    def _table(self, states: list[dict[str, float]]) -> pa.Table:
        images = [_draw(self._own.side, **state) for state in states]
        texts = [json.dumps(state) for state in states]
        return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})


class DiscSize(contracts.Embedder):
    """Share of bright pixels and mean brightness: 2 numbers that no one's private data were needed to choose."""

    modality = "image"
    Options = contracts.Options
    dimension = 2

    def __init__(self, options: BaseModel) -> None:
        pass

    def embed(self, records: pa.Table) -> contracts.Embedding:
        """A record that cannot be read is a fault, with a fixed phrase and nothing of its content."""
        vectors = np.zeros((records.num_rows, 2), np.float32)
        faults = {}
        for row, data in enumerate(records["image"].to_pylist()):
            image = decode_image(data, mode="L")
            if isinstance(image, contracts.Fault):
                faults[row] = image
            else:
                pixels = np.asarray(image) / 255
                vectors[row] = (pixels > 0.15).mean(), pixels.mean()
        return contracts.Embedding(vectors, faults)


def _moved(value: float, low: float, high: float, degree: float, rng: np.random.Generator) -> float:
    return float(np.clip(value + rng.uniform(-degree, degree) * (high - low), low, high))


def _draw(side: int, radius: float, light: float) -> bytes:
    picture = Image.new("L", (side, side))
    low, high = side * (0.5 - radius), side * (0.5 + radius)
    ImageDraw.Draw(picture).ellipse((low, low, high, high), fill=round(255 * light))
    sink = io.BytesIO()
    picture.save(sink, format="PNG")
    return sink.getvalue()
