"""How candidates compete and multiply: the section `evolution`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section
from pe_beam.recipe.sections.part import Part
from pe_beam.recipe.sections.start import Start
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.selection.threshold import threshold_in_votes

Schedule = Real | list[Real] | dict[str, Any]
Threshold = Real | str
Selection = Literal["multinomial", "systematic", "rank"]


class Turn(Section):
    """How one iteration selects and multiplies."""

    threshold: Threshold
    selection: Selection
    variations: int
    keep_parents: bool

    @property
    def family(self) -> int:
        """Returns the number of candidates that one selected row gives."""
        return self.variations + int(self.keep_parents)


class Phase(Section):
    """What is different from an iteration on; null: as before."""

    first: Whole = Field(alias="from", ge=1, description="the first iteration that it concerns")
    threshold: Threshold | None = Field(None, description="as evolution.threshold")
    selection: Selection | None = Field(None, description="as evolution.selection")
    variations: Whole | None = Field(None, ge=0, description="as evolution.variations")
    keep_parents: bool | None = Field(None, description="as evolution.keep_parents")


class Approximate(Section):
    """Votes by an HNSW graph of faiss. It now and then misses the nearest candidate, and the release says how often."""

    name: Literal["approximate"] = Field("approximate", description="the word that chooses it")
    neighbours: Whole = Field(32, ge=2, le=512, description="links of a candidate in the graph (M)")
    build_effort: Whole = Field(64, ge=1, le=8192, description="candidates looked at to link one (efConstruction)")
    effort: Whole = Field(
        64,
        ge=1,
        le=8192,
        description="candidates held while one vote is sought (efSearch); labels with no more are searched exactly",
    )


def _search(value: Any) -> Any:
    """Writes a search in one way: `exact`, or a mapping with the name approximate."""
    name = value.get("name", "approximate") if isinstance(value, Mapping) else value
    if isinstance(name, str) and name not in ("exact", "approximate"):
        raise ValueError(
            "is no search that is allowed: exact, or approximate (an HNSW graph of faiss). Votes have to be a function "
            "of record and index alone, so IVF, PQ and others are refused: IVF changed up to 400 of 4,000 votes with "
            "the batch size"
        )
    if value == "approximate":
        return {"name": "approximate"}
    return "exact" if isinstance(value, Mapping) and dict(value) == {"name": "exact"} else value


class Evolution(Section):
    """How candidates compete and multiply."""

    iterations: Whole = Field(10, ge=1, le=10000, description="T: each is one noisy histogram that is paid for")
    samples: Whole = Field(gt=0, description="rows of samples.parquet")
    population: Schedule | None = Field(None, description="candidates voted on, per iteration; null: samples")
    degree: Schedule = Field(
        default_factory=lambda: {"from": 0.5, "to": 0.05, "decay": "linear"},
        description="how far a variation may go, per iteration, 0 to 1",
    )
    lookahead: Whole = Field(0, ge=0, description="variations averaged to embed a candidate; 0: itself")
    votes_per_record: Whole = Field(1, ge=1, description="k: a record votes for its k nearest candidates")
    distance: Literal["l2", "cosine", "inner_product"] = Field("l2", description="what near means in the embedding")
    threshold: Threshold = Field("1 sigma", description="votes, 'x sigma', or auto")
    selection: Selection = Field(
        "systematic", description="drawn by share of votes, with even steps by share, or the best ones"
    )
    smoothing: Real = Field(
        0.0,
        ge=0,
        lt=math.inf,
        description="distance in the embedding over which noisy votes of all iterations are pooled; 0: off",
    )
    search: Annotated[Literal["exact", "approximate"] | Approximate, BeforeValidator(_search)] = Field(
        "exact",
        description="how the nearest candidate is found; approximate pays from some 50,000 candidates a label on",
    )
    variations: Whole = Field(1, ge=0, description="variations of each selected row")
    keep_parents: bool = Field(False, description="whether selected rows stay beside their variations")
    phases: list[Phase] = Field(
        default_factory=list, description="threshold, selection, variations, keep_parents from an iteration on"
    )
    final: Literal["varied", "selected"] = Field("varied", description="what the last population holds")
    filters: Annotated[list[Part], NEWER] = Field(
        default_factory=list,
        description="what new candidates have to pass, in order: name (regex, length, language, json-schema, python, "
        "judge) and options; they may not come from private data",
    )
    filter_attempts: Annotated[Whole, NEWER] = Field(
        3, ge=0, le=100, description="times that a candidate which fails is made again, before another stands in"
    )
    repeats: Annotated[Literal["any", "modelled"], NEWER] = Field(
        "any",
        description="rows of the last population that are equal to others: any, or modelled: as many as the measured "
        "marginals give, and others are changed a little (tables)",
    )
    draws: Annotated[Literal["weighted", "balanced"], NEWER] = Field(
        "weighted",
        description="the last selection: drawn by votes alone, or balanced: of such draws one whose columns and "
        "pairs are as they were measured, within the noise (tables)",
    )
    start: Annotated[Start | None, NEWER] = Field(
        None, description="a finished release that the first population is taken from; null: all of it is random"
    )

    @model_validator(mode="after")
    def _check(self) -> Evolution:
        starts = [phase.first for phase in self.phases]
        if starts != sorted(set(starts)) or any(start > self.iterations for start in starts):
            raise ValueError("phases: from has to rise from one to the next, up to iterations")
        if self.approximate is not None and self.approximate.effort < self.votes_per_record:
            raise ValueError("search.effort: votes_per_record at least")
        for iteration in [1, *starts]:
            turn = self.turn(iteration)
            if turn.family == 0:
                raise ValueError("variations: 0 needs keep_parents: true")
            if threshold_in_votes(turn.threshold, 1.0) is None and self.smoothing:
                raise ValueError("threshold: auto is for votes that are not pooled; smoothing needs a fixed one")
        if self.draws == "balanced" and self.turn(self.iterations).selection == "rank":
            raise ValueError("draws: balanced is for draws by share of votes; rank draws none, and wants weighted")
        degrees = resolve_schedule(self.degree, self.iterations, name="evolution.degree")
        if not all(0 <= degree <= 1 for degree in degrees):
            raise ValueError("degree: from 0 to 1")
        self.populations()
        return self

    @property
    def approximate(self) -> Approximate | None:
        """Returns the options of approximate search; None: search is exact."""
        return self.search if isinstance(self.search, Approximate) else None

    def family(self) -> int:
        """Returns the largest number of candidates that one selected row gives."""
        return max(self.turn(t).family for t in [1, *(phase.first for phase in self.phases)])

    def turn(self, iteration: int) -> Turn:
        """Returns how iteration t selects and multiplies, without regard to `final`."""
        values = {name: getattr(self, name) for name in Turn.model_fields}
        for phase in self.phases:
            if phase.first <= iteration:
                values |= phase.model_dump(include=set(values), exclude_none=True)
        return Turn(**values)

    def family_at(self, iteration: int) -> tuple[int, bool]:
        """Returns the number of variations of a selected row in iteration t, and whether the row itself stays."""
        if iteration == self.iterations and self.final == "selected":
            return 0, True
        turn = self.turn(iteration)
        return turn.variations, turn.keep_parents

    def generator_calls(self, iterations: Iterable[int]) -> int:
        """Returns the number of candidates and lookahead variations of these iterations, kept parents included."""
        sizes = self.populations()
        return sum(sizes[t] + (self.lookahead * sizes[t - 1] if t else 0) for t in iterations)

    def degrees(self) -> list[float]:
        """Returns the degrees of variation in iterations 1 to T."""
        return resolve_schedule(self.degree, self.iterations, name="evolution.degree")

    def populations(self) -> list[int]:
        """Returns the sizes of populations 0 to T. The last is `samples`. Those between are whole families."""
        value = self.samples if self.population is None else self.population
        sizes = [round(x) for x in resolve_schedule(value, self.iterations, name="evolution.population")]
        if min(sizes) < 1:
            raise ValueError("population: at least 1")
        families = [self.turn(t).family for t in range(self.iterations + 1)]
        if self.final == "varied" and self.samples % families[-1]:
            raise ValueError(f"samples: a multiple of {families[-1]}, the rows of a family, is wanted")
        whole = [max(1, size // family) * family for size, family in zip(sizes, families, strict=False)]
        return [sizes[0], *whole[1:], self.samples]
