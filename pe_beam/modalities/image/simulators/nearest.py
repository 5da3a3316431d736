"""Generator `nearest-image`: a public set of pictures in place of a model (Sim-PE, arXiv 2502.05505, section 4.3).

A candidate is a picture of the set. A variation is one of the pictures that are nearest to it in a declared embedding.
Its `state` has the picture's place, its rank among the neighbours, and the key of the set.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pe_beam import contracts, registry
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.generator import Step
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.resize import Levels
from pe_beam.modalities.image.schedules import setting, settings
from pe_beam.modalities.image.simulators.picture_set import PictureSet, open_set
from pe_beam.modalities.image.simulators.set_reading import SetReader
from pe_beam.modalities.variables import Schedule

_CACHED = 16 << 20  # neighbours that are remembered, 4 bytes each


class EmbedderPart(BaseModel):
    """An image embedder by its registered name; the other keys are its own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(description="as it is registered; the other keys are its own options")


class NearestImageOptions(contracts.Options):
    """Options of `nearest-image`. The set is public: nothing about it is protected."""

    path: str = Field(description="the public set: a folder, a file or a glob on this machine")
    source: str = Field(
        "folder",
        description="what kind of files they are, as for data.source: folder, parquet, ...",
        json_schema_extra={"public": True},
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="role (image, label) -> column; default: their own names"
    )
    source_options: dict[str, Any] = Field(default_factory=dict, description="as data.options")
    labels: Literal["ignore", "own"] = Field(
        "ignore",
        description="own: candidates of a label are the set's pictures of it (its folders or its column); ignore: any",
    )
    side: int | None = Field(
        None, ge=1, le=4096, description="pixels: the shorter side becomes that, the middle is kept; null: as they are"
    )
    mode: Literal["rgb", "gray"] = Field("rgb", description="of the pictures made")
    levels: Annotated[Levels | None, NEWER] = Field(
        None,
        description="of 16-bit gray, as data.prepare.levels: the values that become black and white; null: 0 and 65535",
    )
    embedder: EmbedderPart = Field(description="where neighbours are near: an image embedder with its options")
    neighbours: Schedule = Field(
        description="from how many nearest pictures a variation is drawn, itself included; 1: it stays"
    )
    index: str | None = Field(
        None, description="folder for pictures and vectors, made once; null: pe_beam in the user's cache folder"
    )


class NearestImage(contracts.Generator):
    """Pictures of a public set: `random` draws one, with replacement, `vary` moves to one nearby.

    It draws with replacement because chunks are made independently, each row by its own key. A large set gives few
    pictures twice.
    """

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = NearestImageOptions
    chunk_size = 1024  # the set is read once per chunk

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Finds source and embedder. Reads nothing. Raises RecipeError."""
        self._options = NearestImageOptions.model_validate(options.model_dump())
        self._labels = list(labels)
        part = self._options.embedder
        cls: type[Embedder] = registry.find("embedders", part.name, key="generator.embedder.name")
        if not registry.fits(cls, "image") or cls.remote or cls.takes_schema:
            raise RecipeError(f"generator.embedder.name: {part.name!r} is not allowed; an image embedder is wanted")
        try:
            self._embedder_options = cls.Options.model_validate(part.model_extra or {})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(place) for place in first["loc"])
            raise RecipeError(f"generator.embedder.{key}: {first['msg']}") from None
        self._reader = SetReader(self._options, self._labels)
        self._iterations = 1
        self._members: dict[str | None, np.ndarray | None] = {}
        self._known: OrderedDict[tuple[int, str | None], np.ndarray] = OrderedDict()
        self._searching = threading.Lock()  # Beam calls from several threads

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if the schedule does not fit the run's iterations."""
        self._iterations = surroundings.iterations
        settings(self._options.neighbours, surroundings.iterations, name="generator.neighbours", least=1)

    def ready(self) -> None:
        """Builds the index if it is not there, and checks that there are pictures of each label."""
        for label in self._labels:
            self._of(label)

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws uniformly from all pictures, or from those of the label."""
        places = []
        for label, rng in zip(labels, rngs, strict=True):
            members = self._of(label)
            drawn = int(rng.integers(self._most(label)))
            places.append((drawn if members is None else int(members[drawn]), 0))
        return self._table(places)

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws uniformly from the pictures nearest to the parent, including itself; with labels, of its label."""
        wanted = round(setting(self._options.neighbours, step, name="generator.neighbours", least=1))
        states = [json.loads(text) for text in parents["state"].to_pylist()]
        if any(state.get("set") != self.pictures.key for state in states):
            raise RecipeError(
                "generator.path: the pictures there are not those that this run began with; put them back, or begin "
                "another run"
            )
        labels = parents["label"].to_pylist() if self._options.labels == "own" else [None] * len(states)
        drawn: list[tuple[int, str | None, int]] = []
        for state, label, rng in zip(states, labels, rngs, strict=True):
            drawn.append((int(state["picture"]), label, int(rng.integers(min(wanted, self._most(label))))))
        with self._searching:
            near = self._nearest({(place, label) for place, label, rank in drawn if rank}, wanted)
        return self._table([(int(near[place, label][rank]) if rank else place, rank) for place, label, rank in drawn])

    @cached_property
    def pictures(self) -> PictureSet:
        """The set. Its index is built first if it is not there."""
        root = self._options.index or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pe_beam" / "pictures"
        key = self._reader.key(self._options.embedder.name, self._embedder_options.model_dump(mode="json"))
        return open_set(Path(root).expanduser(), key, lambda folder: self._reader.write(folder, self._embedder()))

    def _embedder(self) -> Embedder:
        name = self._options.embedder.name
        made: Embedder = registry.find("embedders", name, key="generator.embedder.name")(self._embedder_options)
        made.attach(Surroundings(iterations=self._iterations, service=Service(), folder=None))
        made.ready()
        return made

    def _of(self, label: str | None) -> np.ndarray | None:
        """Returns the places of the pictures that may stand for a label; None: all pictures."""
        if self._options.labels == "ignore":
            _ = self.pictures
            return None
        if label not in self._members:
            members = self.pictures.members(self._labels.index(label))
            if not len(members):
                raise RecipeError(f"generator.labels: own, but the set has no pictures of label {label!r}")
            self._members[label] = members
        return self._members[label]

    def _most(self, label: str | None) -> int:
        members = self._of(label)
        return self.pictures.count if members is None else len(members)

    def _nearest(self, asked: set[tuple[int, str | None]], keep: int) -> dict[tuple[int, str | None], np.ndarray]:
        """Returns the neighbours of each (picture, label). Keeps the last ones, for lookahead asks for them again."""
        found = {}
        missing: dict[str | None, list[int]] = {}
        for place, label in asked:
            known = self._known.get((place, label))
            if known is not None and len(known) >= min(keep, self._most(label)):
                self._known.move_to_end((place, label))
                found[place, label] = known
            else:
                missing.setdefault(label, []).append(place)
        for label, places in missing.items():
            rows = np.sort(np.array(places))
            lists = self.pictures.neighbours.nearest(rows, keep, self._of(label))
            for place, near in zip(rows.tolist(), lists, strict=True):
                found[place, label] = self._known[place, label] = near.astype(np.int32)
        while len(self._known) * keep > _CACHED:
            self._known.popitem(last=False)
        return found

    def _table(self, places: Sequence[tuple[int, int]]) -> pa.Table:
        states = [
            json.dumps({"picture": place, "rank": rank, "set": self.pictures.key}, separators=(",", ":"))
            for place, rank in places
        ]
        images = [self.pictures.image(place) for place, _ in places]
        return pa.table({"state": pa.array(states, pa.string()), "image": pa.array(images, pa.binary())})
