"""Options of the generator `llm`: the questions to a model. All of them are public and shape the release.

The connection to the model is not here but in `execution.llm`. Texts may be given directly, or as {file: PATH}. The
resolved recipe then has the file's content.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pe_beam import contracts
from pe_beam.contracts.newer import NEWER
from pe_beam.modalities.variables import LabelFields, LabelTexts, Part, Schedule, Variables
from pe_beam.numbers import Real, Whole


class Example(Part):
    """A question and the answer wanted, public: shown to the model before the question."""

    user: str = Field(description="what is asked")
    assistant: str = Field(description="the answer wanted")


class Sampling(Part):
    """How tokens are drawn. Lists and decays run over the iterations; random candidates take a number alone."""

    temperature: Schedule | None = Field(1.0, description="0 or more; null: not sent, for services that refuse it")
    top_p: Schedule | None = Field(1.0, description="above 0, to 1; null: not sent, for services that refuse it")
    max_tokens: Schedule = Field(256, description="most tokens of an answer")

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the fields that are not sent."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is None)

    def in_numbers(self) -> Sampling:
        """Returns a copy with 1 for each field that is not sent, because most services then use 1."""
        return self.model_copy(update=dict.fromkeys(self.left_out, 1.0))


class Random(Part):
    """The question for a candidate from nothing."""

    system: str | None = Field(None, description="template")
    user: str = Field(description="template; with format completion, the text that the model goes on from")
    examples: list[Example] = Field(default_factory=list, description="shown before the question; public")
    sampling: Sampling = Field(default_factory=Sampling)

    @model_validator(mode="after")
    def _check(self) -> Random:
        for name in Sampling.model_fields:
            if not isinstance(getattr(self.sampling, name), int | float | None):
                raise ValueError(f"sampling.{name}: one number; schedules are for variations")
        return self


class Words(Part):
    """A target in words, drawn around the parent's own (Aug-PE: max(least, words + trunc(N(0, sd))))."""

    sd: Real = Field(ge=0, description="standard deviation, in words")
    least: Whole = Field(25, ge=1, description="words at least")
    tokens_per_word: Real | None = Field(None, gt=0, description="sets the most tokens to this times the target")
    most_tokens: Whole = Field(1200, ge=1, description="tokens of an answer at most")


class Vary(Part):
    """The question for a variation of a parent: {sample} is its text, {masked} the text with blanks."""

    system: str | None = Field(None, description="template")
    user: str = Field(description="template")
    examples: list[Example] = Field(default_factory=list, description="shown before the question; public")
    examples_from_candidates: Whole = Field(
        0, ge=0, le=64, description="other synthetic candidates of the same label that {examples} shows"
    )
    sampling: Sampling = Field(default_factory=Sampling)
    mask_share: Schedule | Literal["degree"] = Field("degree", description="share of tokens that {masked} blanks")
    blank: str = Field("_", min_length=1, description="what stands for a blanked token")
    words: Words | None = Field(None, description="target length; {words} in the template")


class Cleaning(Part):
    """What is done to an answer, and what makes it a rejected one."""

    newlines: bool = Field(False, description="keep line breaks; false: all white space becomes one space")
    markup: Annotated[bool, NEWER] = Field(
        True,
        description="take off reasoning in marks (<think> and the like) and tokens that begin or end a turn; reasoning "
        "without an end is an empty answer",
    )
    strip: bool = Field(True, description="take off quotes, code fences, preambles, closing remarks, word counts")
    cut: Literal["trim", "keep", "reject"] = Field(
        "trim", description="an answer that ran out of tokens: back to its last whole sentence, as is, or rejected"
    )
    refusals: bool = Field(True, description="reject answers that refuse or speak of being a model")
    least_characters: Whole = Field(1, ge=1, description="shorter answers are rejected")
    most_characters: Whole = Field(20000, ge=1, description="longer answers are rejected")
    language: str | None = Field(None, pattern="^[a-z]{2,3}$", description="such as en: other languages are rejected")
    duplicates: bool = Field(True, description="reject an answer that equals its parent or one of its chunk")


class Local(Part):
    """Of back end huggingface alone."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field("auto", description="of the weights")
    revision: str | None = Field(None, description="of a hub's model")
    batch_size: Whole = Field(16, ge=1, le=4096, description="texts written at a time")
    top_k: Whole = Field(0, ge=0, description="tokens to draw from; 0: all")
    no_repeat_ngram: Whole = Field(0, ge=0, description="length of runs that may not come twice; 0: off")
    repetition_penalty: Real = Field(1.0, gt=0, description="1: none")
    device_map: Annotated[str | None, NEWER] = Field(
        None,
        pattern=r"^(auto|balanced|balanced_low_0|sequential|cpu|mps|(cuda|xpu|npu)(:[0-9]+)?)$",
        description="auto, balanced or sequential: over all GPUs; or a device, as cuda:1; null: one GPU or the CPU",
    )
    bits: Annotated[Literal[4, 8] | None, NEWER] = Field(None, description="weights in 4 or 8 bits, by bitsandbytes")


class LlmOptions(contracts.Options):
    """Options of `llm`."""

    backend: Literal["openai", "huggingface"] = Field("openai", description="a service, or this machine")
    model: str = Field(
        description="its name at the service, or a local path or hub name", json_schema_extra={"public": "name"}
    )
    format: Literal["chat", "completion"] = Field("chat", description="messages, or a text that is gone on from")
    label_fields: LabelFields = Field(default_factory=list)
    label_texts: LabelTexts = Field(default_factory=dict)
    variables: Variables = Field(default_factory=dict, description="drawn anew for every call")
    random: Random = Field(description="the question for a candidate from nothing", json_schema_extra={"public": True})
    vary: Vary = Field(description="the question for a variation of a parent", json_schema_extra={"public": True})
    cleaning: Cleaning = Field(default_factory=Cleaning, description="of answers", json_schema_extra={"public": True})
    reasks: Whole = Field(2, ge=0, le=20, description="times that a rejected answer is asked for again")
    seeded: bool = Field(True, description="send a seed with each call; false for services that refuse one")
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the service calls the most tokens of an answer"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of the request's body",
        json_schema_extra={"public": False},  # what a service wants there is not known
    )
    local: Local = Field(default_factory=Local)

    @model_validator(mode="after")
    def _check(self) -> LlmOptions:
        empty = [name for name, values in self.variables.items() if values == []]
        if empty:
            raise ValueError(f"variables.{empty[0]}: at least one value")
        for part, sampling in (("random", self.random.sampling), ("vary", self.vary.sampling)):
            if self.backend == "huggingface" and sampling.left_out:
                raise ValueError(
                    f"{part}.sampling.{sampling.left_out[0]}: a number; null leaves a field out of what a service is "
                    "asked, and backend huggingface asks none"
                )
        return self
