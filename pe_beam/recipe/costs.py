"""Estimates the use of a remote or local language model before any call: calls, tokens, money, and recipients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pe_beam.contracts.generator import Generator, PaidGenerator
from pe_beam.recipe.filtered import unfiltered
from pe_beam.recipe.makers import expected_shares
from pe_beam.recipe.mixed import Mixed
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_filters, new_generator


@runtime_checkable
class Estimating(Protocol):
    """A generator that can estimate the tokens of a call."""

    def expected_tokens(self, iteration: int, iterations: int, labels: Any) -> tuple[int, int]:
        """Returns (tokens sent, tokens received) of one call of an iteration. Iteration 0 makes random candidates."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The estimate of a recipe, without rejected answers and faults of the service.

    Attributes:
      calls: number of candidates and lookahead variations that are requested.
      input_tokens: approximate number of tokens sent.
      output_tokens: largest number of tokens received.
      money: largest cost at the price of `execution.llm`; None without a price.
      currency: currency of `money`; None without a price.
      recipients: addresses that see every candidate: recipients of the release.
      warnings: limits (`execution.llm.ceiling`) that are below the estimate.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    money: float | None
    currency: str | None
    recipients: list[str]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as one JSON object."""
        return asdict(self)


def estimate_costs(recipe: Recipe) -> Costs | None:
    """Estimates calls, tokens and money without a call. Returns None if no generator costs anything per call.

    It adds up several generators. Their numbers of calls assume that votes favour no generator's candidates.
    """
    whole = new_generator(recipe)
    parts = [unfiltered(part) for part in (whole.parts if isinstance(whole, Mixed) else [whole])]
    judges = _judges(recipe)
    paid = [place for place, part in enumerate(parts) if isinstance(part, PaidGenerator)]
    if not paid and not judges:
        return None
    evolution, service = recipe.evolution, recipe.execution.llm
    every = np.array([calls_of(recipe, t) for t in range(evolution.iterations + 1)])
    shares = expected_shares(recipe)
    count = sent = received = 0
    for place in paid:
        calls = [round(call) for call in (every * shares[:, place]).tolist()]
        count += sum(calls)
        tokens = _tokens(recipe, parts[place], calls)
        sent, received = sent + tokens[0], received + tokens[1]
    for one in judges:
        asked = int(every.sum())
        count, sent, received = count + asked, sent + asked * one[0], received + asked * one[1]
    money = None
    if service.price is not None:
        money = (sent * service.price.input + received * service.price.output) / 1e6
    told = [endpoint.base_url or "the client library's own address" for endpoint in service.endpoints]
    return Costs(
        calls=count,
        input_tokens=sent,
        output_tokens=received,
        money=money,
        currency=None if service.price is None else service.price.currency,
        recipients=told if whole.remote else [],
        warnings=_warnings(recipe, count, sent + received, money),
    )


def _judges(recipe: Recipe) -> list[tuple[int, int]]:
    """Returns the expected tokens (sent, received) of a call of each filter that asks a model about a candidate."""
    told = [each.expected_tokens() for _, each in new_filters(recipe).named]
    return [tokens for tokens in told if tokens is not None]


def _tokens(recipe: Recipe, generator: Generator, calls: Sequence[int]) -> tuple[int, int]:
    """Returns tokens (sent, received) for the calls of iterations 0 to T; (0, 0) if the generator cannot estimate."""
    sent = received = 0
    if isinstance(generator, Estimating):
        for t, count in enumerate(calls):
            own = generator.expected_tokens(t, recipe.evolution.iterations, recipe.label_list)
            sent, received = sent + count * own[0], received + count * own[1]
    return sent, received


def calls_of(recipe: Recipe, iteration: int) -> int:
    """Returns the number of answers that an iteration needs. With rank selection kept parents need no answer.

    The reason is that rank draws no row twice.
    """
    evolution = recipe.evolution
    sizes = evolution.populations()
    variations, keep = evolution.family_at(iteration) if iteration else (1, False)
    new = sizes[iteration]
    if keep and evolution.selection == "rank":
        new -= sizes[iteration] // (variations + 1)
    return new + (evolution.lookahead * sizes[iteration - 1] if iteration else 0)


def _warnings(recipe: Recipe, calls: int, tokens: int, money: float | None) -> list[str]:
    ceiling = recipe.execution.llm.ceiling
    pairs = [("calls", ceiling.calls, calls), ("tokens", ceiling.tokens, tokens), ("money", ceiling.money, money)]
    return [
        f"execution.llm.ceiling.{name}: {limit:g} is below the estimate of {wanted:g}; the run may stop there"
        for name, limit, wanted in pairs
        if limit is not None and wanted is not None and limit < wanted
    ]
