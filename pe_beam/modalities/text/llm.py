"""Generator `llm`: candidates from a language model, as in Aug-PE (arXiv 2403.01749).

The question for a candidate depends only on its own random stream, so that a resume asks exactly the same. An answer is
cleaned. A rejected answer is asked for again, with everything drawn again. After the last attempt the parent stands in
(for a random candidate another candidate), and the candidate's state and the manifest record it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam import contracts
from pe_beam.contracts.generator import Chunk, Exchange, PaidGenerator, Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import RecipeError
from pe_beam.modalities import rejected
from pe_beam.modalities.text.client import Answer, Ask, Client, rough_tokens
from pe_beam.modalities.text.options import Example, LlmOptions, Sampling
from pe_beam.modalities.text.prompts import check_templates, mask, word_target
from pe_beam.modalities.text.rows import Rows
from pe_beam.modalities.text.sampling import Dials, Pool
from pe_beam.modalities.variables import draw_variables, fill, names_in
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.services.journal import Journal

_STREAM = 1 << 62


class Llm(PaidGenerator):
    """Texts from a language model behind a `Client`."""

    modality = "text"
    Options: ClassVar[type[contracts.Options]] = LlmOptions
    chunk_size: ClassVar[int] = 512
    varies_any: ClassVar[bool] = True

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks templates and variables against the declared labels. Raises RecipeError."""
        self._options = LlmOptions.model_validate(options.model_dump(by_alias=True))
        self.remote = self._options.backend == "openai"  # type: ignore[misc]  # here it depends on the recipe
        check_templates(self._options, labels)
        _check_format(self._options)
        _limits(self._options.random.sampling, 1, 1, where="generator.random.sampling")
        self._around = Surroundings(iterations=1, service=Service(), folder=None)
        self._client: Client | None = None
        self._shown: tuple[pa.Table | None, Pool] | None = None
        self._heard: Callable[[Exchange], None] = lambda _: None

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if a schedule does not fit the run's iterations."""
        self._around = surroundings
        self._client = None
        _limits(self._options.vary.sampling, surroundings.iterations, 1, where="generator.vary.sampling")
        self._mask_shares(surroundings.iterations)

    def ready(self) -> None:
        """See Generator."""
        self.client.ready()

    def listen(self, heard: Callable[[Exchange], None]) -> None:
        """See Generator."""
        self._heard = heard

    @property
    def client(self) -> Client:
        """The language model. It is connected or loaded at the first access."""
        if self._client is None:
            self._client = _new_client(self._options, self._around)
        return self._client

    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """Returns new texts, one for each label. A row without a usable answer copies another row of its chunk."""
        options = self._options
        limits = _limits(options.random.sampling, 1, 1, where="generator.random.sampling")

        def ask(row: int, stream: np.random.Generator) -> tuple[Ask, dict[str, str]]:
            values = draw_variables(options, labels[row], stream)
            messages = _messages(options, options.random.system, options.random.user, options.random.examples, values)
            return self._ask(row, messages, limits, stream), _chosen(options, values)

        return self._made(ask, labels, [None] * len(labels), rngs, chunk)

    def vary(
        self,
        parents: pa.Table,
        step: Step,
        rngs: Sequence[np.random.Generator],
        *,
        chunk: Chunk | None = None,
    ) -> pa.Table:
        """Returns a variation of each parent. A row without a usable answer has the parent's own text."""
        options = self._options
        part = options.vary
        labels, texts = parents["label"].to_pylist(), parents["text"].to_pylist()
        limits = _limits(part.sampling, step.iterations, step.iteration, where="generator.vary.sampling")
        shares = self._mask_shares(step.iterations)
        share = step.degree if shares is None else shares[step.iteration - 1]
        used = names_in(part.user) + names_in(part.system or "")
        pool = self._pool(chunk) if part.examples_from_candidates else Pool(None)

        def ask(row: int, stream: np.random.Generator) -> tuple[Ask, dict[str, str]]:
            values = draw_variables(options, labels[row], stream)
            chosen = _chosen(options, values)
            text, own = texts[row], limits
            values |= {"sample": text, "masked": "", "words": "", "examples": ""}
            if "masked" in used:
                values["masked"] = mask(text, share, stream, blank=part.blank)
            if part.words is not None:
                target = word_target(text, sd=part.words.sd, least=part.words.least, rng=stream)
                values["words"] = str(target)
                if part.words.tokens_per_word is not None:
                    own = limits | {"max_tokens": min(part.words.most_tokens, int(part.words.tokens_per_word * target))}
            if "examples" in used:
                shown = pool.draw(labels[row], part.examples_from_candidates, stream, text)
                values["examples"] = "\n".join(f"- {example}" for example in shown)
            messages = _messages(options, part.system, part.user, part.examples, values)
            return self._ask(row, messages, own, stream), chosen

        return self._made(ask, labels, texts, rngs, chunk)

    def _pool(self, chunk: Chunk | None) -> Pool:
        """Returns the candidates that a prompt may show: one pool for all chunks of a population."""
        population = chunk.population() if chunk is not None and chunk.population is not None else None
        if self._shown is None or self._shown[0] is not population:
            self._shown = population, Pool(population)
        return self._shown[1]

    def _ask(
        self,
        row: int,
        messages: tuple[tuple[str, str], ...],
        limits: Mapping[str, float],
        stream: np.random.Generator,
    ) -> Ask:
        local = self._options.local.model_dump() if self._options.backend == "huggingface" else {}
        return Ask(
            row=row,
            messages=messages,
            temperature=float(limits.get("temperature", 1.0)),
            top_p=float(limits.get("top_p", 1.0)),
            max_tokens=int(limits["max_tokens"]),
            seed=int(stream.integers(2**31)),
            left_out=tuple(name for name in ("temperature", "top_p") if name not in limits),
            extra={"model": self._options.model, **self._options.extra, **local},
        )

    def _made(
        self,
        ask: Callable[[int, np.random.Generator], tuple[Ask, dict[str, str]]],
        labels: Sequence[str | None],
        parents: Sequence[str | None],
        rngs: Sequence[np.random.Generator],
        chunk: Chunk | None,
    ) -> pa.Table:
        """Asks until every row has a text or has been rejected `reasks` + 1 times."""
        if not labels:
            return _table([], [])
        # A key for each row: the draws of an attempt do not depend on how much an earlier attempt has drawn.
        keys = [int(rng.integers(_STREAM)) for rng in rngs]
        rows = Rows(self._options, parents)

        def at(row: int) -> Ask:
            made, rows.chosen[row] = ask(row, _stream(keys[row], rows.attempts[row]))
            return made

        def on_answer(asked: Ask, answer: Answer) -> Ask | None:
            self._heard(Exchange(row=asked.row, prompt=asked.prompt, answer=answer.text))
            return at(asked.row) if rows.judge(asked.row, answer) else None

        with Journal(None if chunk is None else chunk.journal) as journal:
            wanted = list(range(len(labels)))
            while wanted:
                self.client.answer_all((at(row) for row in wanted), on_answer, journal)
                wanted = rows.repeated()
            rows.stand_in(labels, keys, forget=journal.forget)
        return _table(rows.texts, rows.states())

    def _mask_shares(self, iterations: int) -> list[float] | None:
        """Returns the share of each iteration; None: the recipe's degree gives it."""
        if self._options.vary.mask_share == "degree":
            return None
        shares = resolve_schedule(self._options.vary.mask_share, iterations, name="generator.vary.mask_share")
        if not all(0 <= share <= 1 for share in shares):
            raise RecipeError("generator.vary.mask_share: from 0 to 1")
        return shares

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """Returns rejected answers by kind, and the number of candidates that are stand-ins."""
        return rejected.summary(made)

    def expected_tokens(self, iteration: int, iterations: int, labels: Sequence[str | None]) -> tuple[int, int]:
        """Returns a call's tokens for `plan`: an estimate of those sent, and a bound on those received.

        Iteration 0 is random. The estimate assumes that a parent is as long as a random answer may be.
        """
        options = self._options
        rng = np.random.default_rng(0)
        part = options.random if iteration == 0 else options.vary
        limits = _limits(part.sampling, max(iterations, 1), max(iteration, 1), where="generator")
        received = int(limits["max_tokens"])
        parent = " ".join(["word"] * max(int(options.random.sampling.max_tokens) * 3 // 4, 1))  # type: ignore[arg-type]
        sent = []
        for turn in range(16):
            values = draw_variables(options, labels[turn * len(labels) // 16], rng)
            values |= {"sample": parent, "masked": parent, "words": "100", "examples": ""}
            messages = _messages(options, part.system, part.user, part.examples, values)
            sent.append(sum(rough_tokens(text) + 4 for _, text in messages))
        own = options.vary.words
        if iteration and own is not None and own.tokens_per_word is not None:
            target = max(own.least, len(parent.split()))
            received = min(own.most_tokens, int(own.tokens_per_word * target))
        shown = options.vary.examples_from_candidates * rough_tokens(parent) if iteration else 0
        return round(float(np.mean(sent))) + shown, received


def _limits(sampling: Sampling, iterations: int, iteration: int, *, where: str) -> dict[str, float]:
    """Returns the sampling parameters of an iteration that are sent. Raises RecipeError if one is out of range."""
    dials = Dials(sampling.in_numbers(), iterations, where=where).at(iteration)
    return {name: dial for name, dial in dials.items() if name not in sampling.left_out}


def _check_format(options: LlmOptions) -> None:
    if options.format == "completion":
        for name, part in (("random", options.random), ("vary", options.vary)):
            if part.system is not None or part.examples:
                raise RecipeError(f"generator.{name}: system and examples are for format chat; put them into user")


def _stream(key: int, attempt: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, attempt]))


def _chosen(options: LlmOptions, values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[name] for name in options.variables}


def _messages(
    options: LlmOptions, system: str | None, user: str, examples: Sequence[Example], values: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    if options.format == "completion":
        return (("prompt", fill(user, values)),)
    first = [("system", fill(system, values))] if system else []
    shown = [pair for example in examples for pair in (("user", example.user), ("assistant", example.assistant))]
    return (*first, *shown, ("user", fill(user, values)))


def _table(texts: Sequence[str | None], states: Sequence[str | None]) -> pa.Table:
    return pa.table({"state": pa.array(states, pa.string()), "text": pa.array(texts, pa.string())})


def _new_client(options: LlmOptions, around: Surroundings) -> Client:
    if options.backend == "huggingface":
        from pe_beam.modalities.text.huggingface import HuggingFaceClient

        return HuggingFaceClient(options)
    from pe_beam.modalities.text.openai_client import OpenAiClient

    return OpenAiClient(options, around)
