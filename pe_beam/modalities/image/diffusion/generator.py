"""Generator `diffusers`: pictures from a diffusion model, as in the first Private Evolution paper (arXiv 2305.15560).

A candidate's noise, prompt and class follow from its own random stream. Pictures are drawn in batches of one shape. A
smaller batch is filled up, so that a picture does not depend on the other pictures of its batch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam import contracts
from pe_beam.contracts.generator import Exchange, Generator, Step
from pe_beam.contracts.record import Fault
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import RecipeError, StageError, UnusableError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities import rejected
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.diffusion.loading import Loaded, find_place, load
from pe_beam.modalities.image.diffusion.looking import look
from pe_beam.modalities.image.diffusion.options import DiffusersOptions
from pe_beam.modalities.image.diffusion.painter import Ask, Dials
from pe_beam.modalities.image.diffusion.prompts import Prompts
from pe_beam.modalities.image.diffusion.schedule import Schedules

_STREAM = 1 << 62
_CHUNK = 64


class Diffusers(Generator):
    """A diffusion model of the library `diffusers`, on this machine."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = DiffusersOptions
    varies_any: ClassVar[bool] = True

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks prompts and classes against the declared labels. The model is loaded when it is first needed.

        Raises:
          RecipeError: a label has no prompt or class, or a template has an unknown name.
        """
        self._options = DiffusersOptions.model_validate(options.model_dump())
        self._prompts = Prompts(self._options, labels)
        self._heard: Callable[[Exchange], None] = lambda _: None
        size = self._options.local.batch_size
        self.chunk_size = size * max(_CHUNK // size, 1)  # type: ignore[misc]  # whole batches; it is in the run id
        classes = self._options.classes
        missing = [label for label in labels if classes is not None and label not in classes]
        if missing:
            raise RecipeError(f"generator.classes: none for label {missing[0]!r}")
        unknown = sorted(set(classes or {}) - {str(label) for label in labels})
        if unknown:
            raise RecipeError(f"generator.classes: {unknown[0]!r} is not one of data.labels")

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if a schedule does not fit the run's iterations."""
        Schedules(self._options, surroundings.iterations)
        self._prompts.check_iterations(surroundings.iterations)

    def listen(self, heard: Callable[[Exchange], None]) -> None:
        """See Generator. A model without prompts is asked for nothing that could be shown."""
        self._heard = heard

    def ready(self) -> None:
        """See Generator. Checks packages, and options against the configuration. The first chunk loads the weights."""
        look(self._options)

    def ready_here(self) -> None:
        """See Generator. Checks that the device is there."""
        find_place(self._options.local)

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws one new picture for each label. The state has the prompt and its variables, or the class."""
        if not labels:
            return _table([], [])
        model, own = load(self._options), self._options.random
        keys = [int(rng.integers(_STREAM)) for rng in rngs]
        states = [self._drawn(label, _stream(key, "state"), model) for label, key in zip(labels, keys, strict=True)]
        asks = [self._ask(label, state, iteration=None) for label, state in zip(labels, states, strict=True)]
        return self._painted(
            model, asks, Dials(steps=own.steps, guidance=own.guidance), labels=labels, keys=keys, states=states
        )

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws a variation of each parent. The parent stands in if all answers are rejected."""
        if not parents.num_rows:
            return _table([], [])
        model, schedules = load(self._options), Schedules(self._options, step.iterations)
        labels, keys = parents["label"].to_pylist(), [int(rng.integers(_STREAM)) for rng in rngs]
        redraw = schedules.redraw(step)
        states = []
        for label, text, key in zip(labels, parents["state"].to_pylist(), keys, strict=True):
            old = {name: value for name, value in json.loads(text or "{}").items() if name in ("class", "variables")}
            fresh = _stream(key, "redraw").random() < redraw or not self._is_own(old, model)
            states.append(self._drawn(label, _stream(key, "state"), model) if fresh else old)
        pictures = [decode_image(data, mode=model.painter.mode) for data in parents["image"].to_pylist()]
        if any(isinstance(picture, Fault) for picture in pictures):
            raise StageError("generator: a parent's picture cannot be read")
        asks = [
            self._ask(label, state, iteration=step.iteration, parent=np.asarray(picture))
            for label, state, picture in zip(labels, states, pictures, strict=True)
        ]
        return self._painted(model, asks, schedules.dials(step), labels=labels, keys=keys, states=states)

    def _is_own(self, state: Mapping[str, Any], model: Loaded) -> bool:
        """Returns whether a parent's state has all that a variation keeps. Another generator may have made it."""
        variables = set(self._options.variables) == set(state.get("variables", {}))
        return variables and (model.painter.classes is not None) == ("class" in state)

    def _drawn(self, label: str | None, stream: np.random.Generator, model: Loaded) -> dict[str, Any]:
        """Draws the state of a new candidate: the variables of its prompt, or its class."""
        if self._options.random.prompt is not None:
            variables = self._prompts.draw(label, stream)
            return {"variables": variables} if variables else {}
        count = model.painter.classes
        if count is None:
            return {}
        allowed = self._options.classes_of(label) or range(count)
        return {"class": int(allowed[int(stream.integers(len(allowed)))])}

    def _ask(
        self, label: str | None, state: dict[str, Any], *, iteration: int | None, parent: np.ndarray | None = None
    ) -> Ask:
        """Returns the request to the model. Adds the prompt to the state, which a report shows."""
        if self._options.random.prompt is None:
            return Ask(seed=0, kind=state.get("class"), parent=parent)
        prompt, negative = self._prompts.texts(label, state.get("variables", {}), iteration)
        state["prompt"] = prompt
        return Ask(seed=0, prompt=prompt, negative=negative, parent=parent)

    def _painted(
        self,
        model: Loaded,
        asks: list[Ask],
        dials: Dials,
        *,
        labels: Sequence[str | None],
        keys: list[int],
        states: list[dict[str, Any]],
    ) -> pa.Table:
        """Asks until each row has a picture or was rejected `reasks` + 1 times. Then another picture stands in."""
        pictures: list[np.ndarray | None] = [None] * len(asks)
        kinds: list[list[str]] = [[] for _ in asks]
        for attempt in range(self._options.reasks + 1):
            wanted = [row for row, picture in enumerate(pictures) if picture is None]
            if not wanted:
                break
            seeded = [_seeded(asks[row], _stream(keys[row], f"noise/{attempt}")) for row in wanted]
            with model.lock:
                drawn = model.batches.run(seeded, lambda batch: model.painter.paint(batch, dials))
            for row, one in zip(wanted, drawn, strict=True):
                if (prompt := asks[row].prompt) is not None:
                    self._heard(Exchange(row=row, prompt=prompt))
                if isinstance(one, str):
                    kinds[row].append(one)
                else:
                    pictures[row] = one
        return _with_stand_ins(asks, pictures, kinds, labels=labels, keys=keys, states=states)

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """Returns rejected answers by kind, and the number of candidates that are stand-ins."""
        return rejected.summary(made)


def _with_stand_ins(
    asks: Sequence[Ask],
    pictures: list[np.ndarray | None],
    kinds: Sequence[Sequence[str]],
    *,
    labels: Sequence[str | None],
    keys: Sequence[int],
    states: list[dict[str, Any]],
) -> pa.Table:
    """Returns the chunk's table.

    The parent stands in for a rejected variation. Another picture of the chunk stands in for a rejected new picture: it
    has the same label if possible, and it keeps its own prompt.

    Raises:
      UnusableError: no picture of a whole chunk could be used.
    """
    good = [row for row, picture in enumerate(pictures) if picture is not None]
    if not good:
        found = sorted({kind for each in kinds for kind in each})
        raise UnusableError(
            f"generator: none of {len(asks)} pictures could be used ({', '.join(found)}); look at the prompts, at "
            "generator.safety_checker and, where they are not finite, at generator.local.dtype"
        )
    told = [dict(state) for state in states]
    for row, picture in enumerate(pictures):
        parent = asks[row].parent
        if picture is None and parent is not None:
            pictures[row] = parent
        elif picture is None:
            own = [other for other in good if labels[other] == labels[row]] or good
            other = own[keys[row] % len(own)]
            pictures[row], told[row] = pictures[other], dict(states[other])
        if kinds[row]:
            told[row]["rejected"] = list(kinds[row])
        if picture is None:
            told[row]["stand_in"] = True
    return _table(pictures, told)


def _stream(key: int, purpose: str) -> np.random.Generator:
    """Returns a row's stream for one purpose. More draws for one purpose do not change the draws for another."""
    return keyed_rng(key, 0, -1, purpose)


def _seeded(ask: Ask, stream: np.random.Generator) -> Ask:
    return dataclasses.replace(ask, seed=int(stream.integers(1 << 62)))


def _table(pictures: Sequence[np.ndarray | None], states: Sequence[Mapping[str, Any]]) -> pa.Table:
    images = [encode_png(picture) for picture in pictures if picture is not None]
    texts = [json.dumps(state, sort_keys=True, separators=(",", ":")) if state else None for state in states]
    return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})
