"""Generator `program`: any program that makes a picture from named parameters, such as a renderer or a game.

It reads one request per line, {"id", "label", "seed", "parameters"}, and answers each with one line, {"id", "file"} or
{"id", "image"} (base64). A candidate's `state` is its parameters and its seed.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pe_beam import contracts
from pe_beam.contracts.generator import Step
from pe_beam.contracts.record import Fault
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.schedules import setting, settings
from pe_beam.modalities.image.simulators.child import Child, ProgramError
from pe_beam.modalities.image.simulators.fitting import fitted
from pe_beam.modalities.variables import Schedule
from pe_beam.numbers import Real, Whole


class _Parameter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Number(_Parameter):
    """A number, each as likely."""

    range: tuple[Real, Real] = Field(description="the smallest and the largest")
    integer: bool = Field(False, description="whole numbers alone")
    move: Schedule | None = Field(None, description="widest move of a variation, as a share of the range; null: degree")

    @model_validator(mode="after")
    def _check(self) -> Number:
        low, high = self.range
        if low > high or (self.integer and (low != int(low) or high != int(high))):
            raise ValueError("range: [least, most]; whole numbers with integer")
        return self


class Choice(_Parameter):
    """One of some values, each as likely."""

    values: list[bool | int | float | str] = Field(min_length=1, description="to choose from")
    move: Schedule | None = Field(None, description="probability that a variation chooses again; null: degree")


class ProgramOptions(contracts.Options):
    """Options of `program`. The program is public: it gets nothing that is private, and must have learnt from none."""

    command: list[str] = Field(min_length=1, description="program and arguments; it is not given to a shell")
    parameters: dict[str, Number | Choice] = Field(
        min_length=1, description="name -> {range, integer, move} or {values, move}"
    )
    seed_move: Schedule | None = Field(
        None, description="probability that a variation has another seed than its parent; null: degree"
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="variables for the program, besides PATH, HOME and the like; the rest is kept from it",
        json_schema_extra={"public": False},
    )
    side: int | None = Field(
        None, ge=1, le=4096, description="pixels: the shorter side becomes that, the middle is kept; null: as they are"
    )
    mode: Literal["rgb", "gray"] = Field("rgb", description="of the pictures made")
    timeout: Real = Field(60.0, gt=0, le=86400, description="seconds that a picture may take")
    restarts: Whole = Field(3, ge=0, le=100, description="times that the program is started again for a picture")


class Program(contracts.Generator):
    """Pictures that a program makes from parameters. It is started once per process, and again when it fails."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = ProgramOptions
    chunk_size = 32  # pictures may take seconds each, and a kill loses a chunk

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks the options. Starts nothing."""
        self._options = ProgramOptions.model_validate(options.model_dump())
        self._labels = list(labels)
        self._lock = threading.Lock()
        self._child: Child | None = None

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if a schedule does not fit the run's iterations."""
        moves = {f"parameters.{name}.move": about.move for name, about in self._options.parameters.items()}
        for name, value in (moves | {"seed_move": self._options.seed_move}).items():
            if value is not None:
                settings(value, surroundings.iterations, name=f"generator.{name}", most=1)

    def ready(self) -> None:
        """Makes a picture, so that a program that fails is found before any budget is spent."""
        if shutil.which(self._options.command[0]) is None:
            raise RecipeError(
                f"generator.command: {self._options.command[0]!r} is no program on this machine; a path or a name that "
                "PATH leads to is wanted"
            )
        self.random(self._labels[:1], [keyed_rng(0, 0, 0, "program/ready")])

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws every parameter uniformly in its range or among its values, and a seed."""
        states = []
        for rng in rngs:
            drawn = {name: _drawn(about, rng) for name, about in self._options.parameters.items()}
            states.append({"parameters": drawn, "seed": int(rng.integers(1 << 53))})
        return self._table(states, labels)

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Moves numbers by up to their share of the range, reflected into it. Draws others again by probability."""
        moves = {
            name: _move(about.move, step, f"parameters.{name}.move") for name, about in self._options.parameters.items()
        }
        another = _move(self._options.seed_move, step, "seed_move")
        states = []
        for text, rng in zip(parents["state"].to_pylist(), rngs, strict=True):
            state = json.loads(text)
            moved = {
                name: _moved(about, state["parameters"][name], moves[name], rng)
                for name, about in self._options.parameters.items()
            }
            redrawn, seed = rng.random() < another, int(rng.integers(1 << 53))
            states.append({"parameters": moved, "seed": seed if redrawn else state["seed"]})
        return self._table(states, parents["label"].to_pylist())

    def _table(self, states: Sequence[dict[str, Any]], labels: Sequence[str | None]) -> pa.Table:
        with self._lock:
            images = [self._picture(state, label) for state, label in zip(states, labels, strict=True)]
        texts = [json.dumps(state, sort_keys=True, separators=(",", ":")) for state in states]
        return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})

    def _picture(self, state: dict[str, Any], label: str | None) -> bytes:
        """Returns a picture as PNG. Starts the program again and asks again if it fails."""
        fault = "the program was not asked"
        for _ in range(self._options.restarts + 1):
            try:
                return self._asked({"label": label, **state})
            except ProgramError as error:
                fault = str(error)
                self._stop()
        tries = self._options.restarts + 1
        raise StageError(
            f"generator.command: no picture after {tries} {'try' if tries == 1 else 'tries'}: {fault}; its stderr is "
            "not heard: give it a request by hand (docs/images.md)"
        )

    def _asked(self, request: dict[str, Any]) -> bytes:
        if self._child is None or self._child.owner != os.getpid():
            self._child = Child(self._options.command, self._options.environment)
            self._asks = 0
        self._asks += 1
        data = self._child.ask({"id": self._asks, **request}, self._options.timeout)
        image = decode_image(data, mode="L" if self._options.mode == "gray" else "RGB")
        if isinstance(image, Fault):
            raise ProgramError(f"a picture of the program: {image.kind}")
        return encode_png(np.asarray(fitted(image, self._options.side)))

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
        self._child = None

    def __del__(self) -> None:
        try:  # noqa: SIM105 - at the end of a process no name of a module may be used here
            self._stop()
        except AttributeError:
            pass


def _move(value: Schedule | None, step: Step, name: str) -> float:
    return step.degree if value is None else setting(value, step, name=f"generator.{name}", most=1)


def _drawn(about: Number | Choice, rng: np.random.Generator) -> Any:
    if isinstance(about, Choice):
        return about.values[int(rng.integers(len(about.values)))]
    low, high = about.range
    return int(rng.integers(int(low), int(high), endpoint=True)) if about.integer else float(rng.uniform(low, high))


def _moved(about: Number | Choice, value: Any, move: float, rng: np.random.Generator) -> Any:
    if isinstance(about, Choice):
        again = rng.random() < move
        drawn = _drawn(about, rng)  # always drawn, so that later draws do not depend on `again`
        return drawn if again else value
    low, high = about.range
    moved = value + rng.uniform(-1, 1) * move * (high - low)
    moved = min(max(2 * low - moved if moved < low else 2 * high - moved if moved > high else moved, low), high)
    return round(moved) if about.integer else float(moved)
