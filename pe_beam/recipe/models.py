"""The recipe: frozen typed models of the YAML file that describes a whole run. They refuse unknown keys.

A resolved recipe has its defaults filled in. `run_id` hashes everything that shapes the release: all keys except
`execution`, `data.path`, `privacy.keep_secret`, `privacy.secret` and `privacy.book` (DESIGN, privacy rule 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from pe_beam import registry
from pe_beam.contracts.newer import NEWER
from pe_beam.numbers import Whole
from pe_beam.recipe.section import Section
from pe_beam.recipe.sections.data import Data, those_that_take
from pe_beam.recipe.sections.evolution import Evolution
from pe_beam.recipe.sections.execution import Execution
from pe_beam.recipe.sections.part import Maker, Part
from pe_beam.recipe.sections.privacy import Privacy
from pe_beam.recipe.stream import Stream


class Recipe(Section):
    """All of a run.

    >>> from pe_beam.recipe.loading import load_recipe
    >>> recipe = load_recipe("digits")
    >>> recipe.label_list[:3], recipe.evolution.samples, recipe.private
    (['0', '1', '2'], 1000, True)
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="of the run; it is released")
    seed: Whole = Field(0, description="of all that is random but the noise")
    data: Data = Field(description="where the private records lie, and what is declared of them")
    modality: str = Field(description="the kind of record, as it is registered")
    generator: Part | None = Field(None, description="what makes candidates; wanted, or generators in its place")
    generators: Annotated[list[Maker] | None, NEWER] = Field(
        None, min_length=1, description="several that make candidates, by share or by phase, in place of generator"
    )
    embedder: Part = Field(description="what makes vectors of records and candidates")
    evolution: Evolution = Field(description="how candidates compete and multiply")
    privacy: Privacy = Field(description="the promise")
    execution: Execution = Field(default_factory=Execution, description="speed only")
    stream: Annotated[Stream | None, NEWER] = Field(
        None, description="data that never end, in windows; null: the data are whole"
    )

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        labels = self.data.labels
        shares = self.privacy.label_counts
        self.privacy.multipliers(self.evolution.iterations)
        self._check_generators()
        self._check_stream()
        engine = Execution.model_fields["search_engine"].default
        if self.evolution.approximate is not None and self.execution.search_engine != engine:
            raise ValueError(
                "execution.search_engine: proposes for exact search only; evolution.search: approximate has an engine "
                f"of its own, faiss's HNSW; leave it away, or at {engine}"
            )
        if isinstance(shares, dict) and self.privacy.label_budget() == 0:
            if labels is None or set(shares) != set(labels):
                raise ValueError("privacy.label_counts: one share for each of data.labels, or budget")
            if not all(0 <= share < math.inf for share in shares.values()) or sum(shares.values()) <= 0:
                raise ValueError("privacy.label_counts: shares of 0 or more, not all 0")
        measured = 0 if self.privacy.counts_columns else self.privacy.label_budget()
        if measured and labels is None:
            raise ValueError("privacy.label_counts: label shares cannot be measured without data.labels")
        if measured and "budget" in (labels or []):
            raise ValueError("privacy.label_counts: a label named budget makes this ambiguous; give it another name")
        for iteration, size in enumerate(self.evolution.populations()):
            wanted = self.label_count * (sum(self.evolution.family_at(iteration)) if iteration else 1)
            if size < wanted:
                raise ValueError(
                    f"evolution: samples and population must be {wanted} at least (labels times rows of a family)"
                )
        if self.privacy.counts_columns and shares != "uniform":
            raise ValueError("privacy.label_counts: measured marginals say the label shares; leave it away")
        weights = self.privacy.weights
        if weights is not None and len(weights) != self.evolution.iterations:
            raise ValueError("privacy.weights: one for each iteration")
        return self

    def _check_stream(self) -> None:
        """Checks what the promise of a stream needs of the other sections (DESIGN, privacy rule 16)."""
        stream = self.stream
        if stream is None:
            return
        taken = registry.find("sources", self.data.source, key="data.source").takes
        for need in ("members", "never_stop"):
            if need not in taken:
                raise ValueError(f"stream: source {self.data.source} has no windows; allowed: {those_that_take(need)}")
        if not self.data.never_stop:
            raise ValueError("data.never_stop: true is wanted with stream, for whether a window stops is an output")
        if self.data.holdout is not None and not isinstance(self.data.holdout, str):
            raise ValueError("data.holdout: a path with stream; a cut of windows is not offered")
        if stream.client_windows > 1 and self.privacy.unit != "client":
            raise ValueError("stream.client_windows: more than 1 only with privacy.unit: client")
        if stream.memory is not None and not self.evolution.smoothing:
            raise ValueError("stream.memory: needs evolution.smoothing, the distance over which votes are pooled")

    def _check_generators(self) -> None:
        """Checks that there is one generator, or several with at least one open in each iteration."""
        if (self.generator is None) == (self.generators is None):
            given = "both are given; leave one away" if self.generator is not None else "neither is given"
            raise ValueError(f"generator: a generator is wanted, or several of them as generators; {given}")
        makers, iterations = self.generators or [], self.evolution.iterations
        names = [maker.name for maker in makers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"generators: {twice[0]!r} is the name of two; different names are wanted")
        for maker in makers:
            last = iterations if maker.last is None else maker.last
            if not maker.first <= last <= iterations:
                raise ValueError(
                    f"generators: {maker.name} is open from {maker.first} to {last}; two iterations in order, of 0 "
                    f"(at random) to {iterations}, are wanted"
                )
        closed = [t for t in range(iterations + 1) if makers and not any(maker.open_at(t) for maker in makers)]
        if closed:
            raise ValueError(f"generators: none is open in iteration {closed[0]}; from and to may leave no gap")

    @property
    def generator_parts(self) -> list[tuple[str, Part]]:
        """Returns (dotted key, part) of the generator, or of each of several generators."""
        if self.generator is not None:
            return [("generator", self.generator)]
        return [(f"generators.{place}.generator", maker.generator) for place, maker in enumerate(self.generators or [])]

    @property
    def filter_parts(self) -> list[tuple[str, Part]]:
        """Returns (dotted key, part) of each filter."""
        return [(f"evolution.filters.{place}", part) for place, part in enumerate(self.evolution.filters)]

    @property
    def label_count(self) -> int:
        """Returns the number of declared labels, or 1 without labels."""
        return len(self.data.labels or [None])

    @property
    def label_list(self) -> list[str | None]:
        """Returns the declared labels, or [None] without labels."""
        return list(self.data.labels) if self.data.labels is not None else [None]

    @property
    def label_codes(self) -> dict[str | None, int]:
        """Returns label -> its position in the declared list."""
        return {label: code for code, label in enumerate(self.label_list)}

    def codes(self, labels: Iterable[str | None]) -> np.ndarray:
        """Returns the positions of records' labels, int32. Raises KeyError for a label that is not declared."""
        positions = self.label_codes
        return np.array([positions[label] for label in labels], dtype=np.int32)

    @property
    def noisy(self) -> bool:
        """Returns False at epsilon = inf: nothing gets noise."""
        return self.privacy.epsilon != math.inf

    @property
    def notice(self) -> str | None:
        """Returns why the release is NOT PRIVATE, or None if it makes a promise. Every file of a release bears it."""
        if not self.noisy:
            return "NOT PRIVATE: epsilon = inf, no noise was added"
        start = self.evolution.start
        if start is None or start.found is None:
            return None
        return {
            "none": "NOT PRIVATE: it starts from a release that is NOT PRIVATE",
            "unknown": "NOT PRIVATE: it starts from a release whose cost is not known",
        }.get(start.found.promise)

    @property
    def vote_unit(self) -> Literal["record", "client"]:
        """Returns by what votes are counted: by record where all rows of a client are one record of bounded norm."""
        source = registry.find("sources", self.data.source, key="data.source")
        bounded = registry.find("modalities", self.modality, key="modality").votes_by_record
        return "record" if source.gathers and bounded else self.privacy.unit

    @property
    def unit_windows(self) -> int:
        """The number of windows of a stream in which a record, or a client's records, vote at most; 1 without one."""
        if self.stream is None:
            return 1
        return self.stream.client_windows if self.privacy.unit == "client" else self.stream.sliding

    @property
    def private(self) -> bool:
        """Returns whether the release makes a promise: noise is added, and what it starts from has a known cost."""
        return self.notice is None
