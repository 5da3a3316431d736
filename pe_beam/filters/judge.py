"""Filter `judge`: a language model is asked about each candidate, as the generator `llm` asks for a variation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.filter import Filter
from pe_beam.contracts.generator import Chunk, Step
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import RecipeError
from pe_beam.filters.patterns import Pattern
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.options import Local
from pe_beam.numbers import Whole

_STEP = Step(iteration=1, iterations=1, degree=0.0)


class JudgeOptions(contracts.Options):
    """Options of filter `judge`."""

    backend: Literal["openai", "huggingface"] = Field("openai", description="a service, or this machine")
    model: str = Field(
        description="its name at the service, or a local path or hub name", json_schema_extra={"public": "name"}
    )
    system: str | None = Field(None, description="template", json_schema_extra={"public": True})
    prompt: str = Field(
        description="template; {sample} is the candidate's text, or its columns as JSON, {label} its label",
        json_schema_extra={"public": True},
    )
    accept: Pattern = Field(
        r"(?i)^\W*yes\b",
        description="a regular expression; an answer in which it is found lets the candidate pass",
        json_schema_extra={"public": True},
    )
    max_tokens: Whole = Field(8, ge=1, le=100_000, description="most tokens of an answer")
    local: Local = Field(default_factory=Local)


class Judge(Filter):
    """Passes candidates of which a language model says what `accept` looks for.

    A service is that of `execution.llm`: it sees every candidate, and shares pace, price and ceiling with the
    generator.
    """

    Options: ClassVar[type[contracts.Options]] = JudgeOptions

    def __init__(self, options: BaseModel, *, payload: pa.Schema, labels: Sequence[str | None]) -> None:
        """See Filter."""
        own = JudgeOptions.model_validate(options.model_dump())
        self.remote = own.backend == "openai"  # type: ignore[misc]  # here it depends on the recipe
        self._accept = re.compile(own.accept)
        self._columns, self._labels = payload.names, labels
        binary = [field.name for field in payload if pa.types.is_binary(field.type)]
        if binary:
            raise RecipeError(f"evolution.filters, judge: {binary[0]} is no text, which a language model could read")
        if "{sample}" not in own.prompt:
            raise RecipeError(
                "evolution.filters, judge: {sample} is not in the prompt, so the answer says nothing of it"
            )
        try:
            self._model = Llm(Llm.Options.model_validate(_asking(own)), labels=labels)
        except RecipeError as error:
            raise RecipeError(str(error).replace("generator.vary.user", "evolution.filters, judge: prompt")) from None

    def attach(self, surroundings: Surroundings) -> None:
        """See Filter."""
        self._model.attach(surroundings)

    def ready(self) -> None:
        """See Filter."""
        self._model.ready()

    def passing(
        self, candidates: pa.Table, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> Sequence[bool]:
        """See Filter. A candidate without a usable answer does not pass."""
        asked = pa.table(
            {
                "label": candidates["label"],
                "state": pa.nulls(candidates.num_rows, pa.string()),
                "text": pa.array([self._text(row) for row in candidates.to_pylist()], pa.string()),
            }
        )
        said = self._model.vary(asked, _STEP, rngs, chunk=chunk)
        stood_in = ["stand_in" in json.loads(state or "{}") for state in said["state"].to_pylist()]
        answers = zip(said["text"].to_pylist(), stood_in, strict=True)
        return [not missing and self._accept.search(text) is not None for text, missing in answers]

    def _text(self, candidate: dict[str, Any]) -> str:
        if self._columns == ["text"]:
            return str(candidate["text"])
        return json.dumps({name: candidate[name] for name in self._columns}, ensure_ascii=False, default=str)

    def expected_tokens(self) -> tuple[int, int]:
        """See Filter. The estimate takes a candidate of 200 tokens."""
        return self._model.expected_tokens(1, 1, self._labels)


def _asking(own: JudgeOptions) -> dict[str, Any]:
    """Returns the options of `llm` with which a variation is the judge's answer to a candidate."""
    sampling = {"temperature": 0.0, "top_p": 1.0, "max_tokens": own.max_tokens}
    return {
        "backend": own.backend,
        "model": own.model,
        "random": {"user": "-"},
        "vary": {"system": own.system, "user": own.prompt, "sampling": sampling},
        "cleaning": {"newlines": True, "strip": False, "cut": "keep", "refusals": False, "duplicates": False},
        "local": own.local.model_dump(),
    }
