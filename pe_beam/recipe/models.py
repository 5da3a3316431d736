"""The recipe: frozen typed models of the YAML file that describes a whole run. They refuse unknown keys.

A resolved recipe has its defaults filled in. `run_id` hashes everything that shapes the release: all keys except
`execution`, `data.path`, `privacy.keep_secret`, `privacy.secret` and `privacy.book` (DESIGN, privacy rule 3).
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pe_beam import registry
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.service import Service
from pe_beam.names import JOINT, label_parts
from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section
from pe_beam.recipe.stream import Stream
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.selection.threshold import threshold_in_votes


class Split(Section):
    """A cut of the data: what it sets aside is never private data."""

    share: Real = Field(0.3, gt=0, lt=1, description="share of the records set aside, in expectation")
    random_state: Whole = Field(0, ge=0, description="seed of the cut")


def _label(value: Any) -> str:
    """Returns a label as text. YAML reads some labels as numbers or dates; booleans (yes, no) and null are refused."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, bool):
        raise ValueError("is true or false to YAML; in quotes ('yes', 'true') it is a label")
    if value is None:
        raise ValueError("null is no label; in quotes ('null') it is one")
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise ValueError("a list of texts is wanted (in quotes where YAML takes them for something else)")


def same_form(value: Any) -> Any:
    """Returns plain data with its texts and keys in Unicode form NFC, the form in which names are compared."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {same_form(key): same_form(inner) for key, inner in value.items()}
    return [same_form(inner) for inner in value] if isinstance(value, list) else value


def _separator(value: Any) -> Any:
    return "\t" if value in ("tab", "\\t") else value


def _those_that_take(what: str) -> str:
    """Returns the names of the sources that support a field of a request."""
    names = registry.names("sources")
    return ", ".join(name for name in names if what in registry.find("sources", name, key="data.source").takes)


Label = Annotated[str, BeforeValidator(_label)]
_TEXTS: dict[str, Any] = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}
MAX_LABELS = 100_000


class Data(Section):
    """Where the private records lie, and what is declared of them."""

    source: str = Field(description="what kind of files they are, as it is registered")
    path: str = Field(description="a data set's name, a folder, a file or a glob; may differ on a resume")
    columns: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="role (a payload field, label, client) -> column; label: one or several",
    )
    table_schema: dict[str, Any] | str | None = Field(
        None,
        alias="schema",
        description="columns as a modality declares them, or a YAML or JSON file that says so, or {file: PATH} "
        "with what is different from that file",
    )
    labels: list[Label] | None = Field(
        None,
        description="the public list of labels, or column -> values: all combinations, joined by ' | '; null: none",
        json_schema_extra={"anyOf": [_TEXTS, {"type": "object", "additionalProperties": _TEXTS}, {"type": "null"}]},
    )
    holdout: Split | str | None = Field(
        None, description="real data for evaluate: a cut {share, random_state} of the data, or a path"
    )
    expected_records: Whole | None = Field(None, gt=0, description="a public guess, for planning only")
    max_rejects: Real = Field(0.05, ge=0, le=1, description="share of rejected records that stops the run")
    never_stop: Annotated[bool, NEWER] = Field(
        False,
        description="no record stops the run: rejects abstain, and nothing is said of them; not for CSV",
    )
    separator: Annotated[Literal[",", ";", "\t", "|"], BeforeValidator(_separator), NEWER] = Field(
        ",", description="what parts the fields of CSV; tab is taken too"
    )
    options: Annotated[dict[str, Any], NEWER] = Field(
        default_factory=dict, description="what a source of your own wants besides"
    )
    prepare: Annotated[dict[str, Any] | None, NEWER] = Field(
        None, description="what is done to records as they are read, as the modality declares (images: size, policy)"
    )
    chat: Annotated[bool, NEWER] = Field(
        False, description="JSONL, Parquet: lists of messages with role and content are read as lines 'role: content'"
    )

    @model_validator(mode="before")
    @classmethod
    def _in_one_form(cls, raw: Any) -> Any:
        """Puts names into one Unicode form, takes a holdout's path out of its mapping, and combines labels."""
        if not isinstance(raw, Mapping):
            return raw
        raw = dict(raw)
        raw |= {key: same_form(raw[key]) for key in ("columns", "schema") if isinstance(raw.get(key), Mapping)}
        holdout = raw.get("holdout")
        if isinstance(holdout, Mapping) and "path" in holdout:
            if set(holdout) != {"path"} or not isinstance(holdout["path"], str):
                raise ValueError("holdout: a path, or a cut with share and random_state; not both")
            raw["holdout"] = holdout["path"]
        return cls._combine(raw)

    @classmethod
    def _combine(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """Turns labels by column into one list of all combinations, and data.columns.label into their columns."""
        labels = same_form(raw.get("labels"))
        if not isinstance(labels, Mapping):
            return raw
        columns = dict(raw.get("columns") or {})
        order = columns.get("label", list(labels))
        order = [order] if isinstance(order, str) else order
        if not isinstance(order, list) or not order or not all(isinstance(name, str) for name in [*order, *labels]):
            raise ValueError("labels: names of columns are wanted (in quotes where YAML takes them for something else)")
        if sorted(order) != sorted(labels):
            raise ValueError("labels: the columns of data.columns.label and no others are wanted")
        if not all(isinstance(labels[column], list) and labels[column] for column in order):
            raise ValueError("labels: a list of texts for each column is wanted")
        try:
            values = [[_label(value) for value in labels[column]] for column in order]
        except ValueError as error:
            raise ValueError(f"labels: a value {error}") from None
        if any(JOINT in x for each in values for x in each):
            raise ValueError(f"labels: a value may not hold {JOINT!r}, which joins those of several columns")
        if math.prod(map(len, values)) > MAX_LABELS:
            raise ValueError(f"labels: more than {MAX_LABELS} combinations")
        joined = [JOINT.join(combination) for combination in itertools.product(*values)]
        return {**raw, "labels": joined, "columns": {**columns, "label": order}}

    @model_validator(mode="after")
    def _check(self) -> Data:
        several = self.columns.get("label")
        if isinstance(several, list) and (not several or len(set(several)) != len(several)):
            raise ValueError("columns.label: at least one column, none twice")
        if self.labels is not None and (not self.labels or len(set(self.labels)) != len(self.labels)):
            raise ValueError("labels: at least one, none twice")
        source = registry.find("sources", self.source, key="data.source")
        if self.never_stop and "never_stop" not in source.takes:
            raise ValueError(
                f"never_stop: refused for source {self.source}, where one damaged record can swallow others; allowed: "
                + _those_that_take("never_stop")
            )
        if self.never_stop and self.prepare is not None:
            raise ValueError(
                "never_stop: refused with prepare, which opens records in a process that one may bring down"
            )
        known: dict[tuple[str, ...], str] = {}
        for label in self.labels or ():
            other = known.setdefault(label_parts(label, several=isinstance(several, list) and len(several) > 1), label)
            if other != label:
                raise ValueError(f"labels: {other!r} and {label!r} are one label in two spellings; one is wanted")
        for key, asked in (("separator", self.separator != ","), ("chat", self.chat)):
            if asked and key not in source.takes:
                raise ValueError(f"{key}: source {self.source} makes no use of it; allowed: {_those_that_take(key)}")
        return self


class Part(Section):
    """A generator or an embedder: its registered name; the other keys are its own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(description="as it is registered; the other keys are its own options")

    @property
    def options(self) -> dict[str, Any]:
        """Returns all keys except the name."""
        return dict(self.model_extra or {})


class Maker(Section):
    """One of several generators: its name and share, and the iterations in which it makes candidates."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="your name for it; it is released, in the state of each candidate that it makes",
    )
    generator: Part = Field(description="what makes candidates, as where there is one")
    share: Real = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description="of what is made from nothing or handed over, against the shares of the others that are open",
    )
    first: Whole = Field(0, alias="from", ge=0, description="the first iteration in which it makes candidates")
    last: Whole | None = Field(None, alias="to", ge=0, description="the last one; null: to the end")

    def open_at(self, iteration: int) -> bool:
        """Returns whether it makes candidates of this population."""
        return self.first <= iteration and (self.last is None or iteration <= self.last)


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


class Ancestor(Section):
    """What an earlier release has spent, as its privacy.json says: the release of the start, or one before it."""

    digest: str = Field(description="of that release, as found.digest")
    unit: Literal["record", "client"] = Field(description="as privacy.unit")
    adjacency: Literal["add-or-remove-one", "replace-one"] = Field(description="as privacy.adjacency")
    delta: Real = Field(gt=0, lt=1, description="as privacy.delta")
    noise_multiplier: list[Real] = Field(description="of each histogram")
    label_shares_noise_multiplier: Real | None = Field(None, description="of the initial measurement; null: none")
    sampling_rate: Real = Field(1, gt=0, le=1, description="as privacy.sampling_rate")
    data: Whole = Field(
        0, ge=0, description="0: may hold records of this run's data; else the number of a set of other data"
    )
    sets: Whole = Field(1, ge=1, description="sets of data that share no record, each with a release that spent this")

    @model_validator(mode="after")
    def _check(self) -> Ancestor:
        multipliers = [*self.noise_multiplier, self.label_shares_noise_multiplier or 1.0]
        if not all(0 < value < math.inf for value in multipliers) or self.label_shares_noise_multiplier == 0:
            raise ValueError("noise_multiplier: finite numbers above 0")
        return self


class Found(Section):
    """What the release of the start says of itself. It is looked up when the recipe is read, and checked again."""

    digest: str = Field(description="SHA-256 over its last manifest, privacy.json and recipe.json")
    promise: Literal["stated", "public", "none", "unknown"] = Field(
        description="whether its cost is stated, is none of ours, is infinite, or is not known"
    )
    states: Literal["kept", "dropped"] = Field(
        description="kept if its generator is this one with the same options: what a generator remembers of a candidate"
    )
    ancestors: list[Ancestor] = Field(default_factory=list, description="what it and those before it have spent")


class Start(Section):
    """A finished release in place of a random first population."""

    release: str = Field(
        description="a run directory or the release folder of one; a path relative to the recipe, or the URL of a "
        "store; may differ on a resume"
    )
    fresh: Real = Field(0.1, ge=0, lt=1, description="share of each label that is made at random all the same")
    disjoint: bool = Field(
        False,
        description="the holder's word that its data, and those of releases before it, share no record (or client) "
        "with this run's: their cost is then stated apart, and not added",
    )
    public: bool = Field(False, description="the holder's word that it is public: then it costs nothing")
    found: Found | None = Field(None, description="filled in when the recipe is read; leave it away")

    @model_validator(mode="after")
    def _check(self) -> Start:
        if self.disjoint and self.public:
            raise ValueError("disjoint: says nothing more of a release that is public; leave one of them away")
        return self

    @property
    def declared(self) -> str:
        """Returns what the holder says of the data behind the release: same (it may be), disjoint or public."""
        return "public" if self.public else "disjoint" if self.disjoint else "same"


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


class InitialMeasurement(Section):
    """What is measured before the first iteration."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    pairs: Annotated[Whole | None, NEWER] = Field(
        None,
        ge=2,
        le=64,
        description="groups of a column's bins in counts of all pairs of columns, about half of the share; null: none",
    )


class OneWay(Section):
    """Counts of each column's bins by label: what all else is measured against."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    overall: Annotated[bool, NEWER] = Field(
        False,
        description="whether half of it is for the same counts over all labels: sums over many have much noise",
    )


class Cliques(Section):
    """Counts of declared columns together."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    columns: list[list[str]] = Field(
        min_length=1,
        description="lists of 2 to 4 columns; each shares one column at most with those before it that hang together, "
        "so that no circle is closed",
    )
    groups: Whole = Field(6, ge=2, le=64, description="groups of a column's bins, of about equal shares, at most")
    by_label: bool = Field(True, description="whether each label has counts of its own")

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: list[list[str]]) -> list[list[str]]:
        parts: list[set[str]] = []  # columns that hang together so far
        for columns in value:
            if not 2 <= len(set(columns)) == len(columns) <= 4:
                raise ValueError("each is a list of 2 to 4 different columns")
            met = [part for part in parts if part & set(columns)]
            if any(len(part & set(columns)) > 1 for part in met):
                raise ValueError(f"{', '.join(columns)}: two of them hang together by those before; a circle is closed")
            parts = [part for part in parts if part not in met] + [set(columns).union(*met)]
        return value


class Halves(Section):
    """Counts of all columns together by label, each in two groups: what only several columns together say, is found."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    columns: Annotated[Whole | None, NEWER] = Field(
        None,
        ge=3,
        le=12,
        multiple_of=3,
        description="columns that are counted together, such that any three are at once somewhere; null: all columns",
    )


class Coarse(Section):
    """Counts of all pairs of columns over all labels, in few groups: what the tree is chosen by."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    groups: Whole = Field(4, ge=2, le=16, description="groups of a column's bins, of about equal shares, at most")


class Tree(Section):
    """Finer counts of those pairs of columns that go together most, by what is released so far."""

    budget: Real = Field(
        gt=0,
        lt=1,
        description="share of the budget; of pairs that noise would hide it goes to one-way counts, once more",
    )
    groups: Whole = Field(
        12, ge=2, le=64, description="groups of a column's bins, of about equal shares, at most; fewer where noise is"
    )
    by_label: bool = Field(True, description="whether each label has counts of its own")


class Slices(Section):
    """Counts of slices of those bins that hold many records: values that come often, and where in a bin records lie."""

    budget: Real = Field(
        gt=0, lt=1, description="share of the budget; if no bin holds enough it goes to one-way counts, once more"
    )


class Measure(Section):
    """Initial measurements, one after the other, each with its share of the budget and its line of the ledger."""

    one_way: OneWay = Field(description="counts of each column by label, first")
    cliques: Cliques | None = Field(None, description="counts of declared columns together; null: none")
    halves: Annotated[Halves | None, NEWER] = Field(
        None,
        description="counts of all columns together in two groups of each, for parities and their like; null: none",
    )
    coarse: Coarse | None = Field(None, description="coarse counts of all pairs of columns; null: none, and no tree")
    tree: Tree | None = Field(None, description="counts of chosen pairs, a tree; null: none, and no coarse ones")
    slices: Annotated[Slices | None, NEWER] = Field(
        None, description="counts of slices of bins of numbers and dates, last; null: none, values are even in a bin"
    )

    @model_validator(mode="after")
    def _check(self) -> Measure:
        if (self.coarse is None) != (self.tree is None):
            raise ValueError("tree: chosen by coarse counts, which are for nothing else; both are wanted, or none")
        if not self.budget < 1:
            raise ValueError("the shares of all steps together: below 1, so that votes have one")
        return self

    @property
    def steps(self) -> dict[str, OneWay | Cliques | Halves | Coarse | Tree | Slices]:
        """Returns name -> step, in the order in which they are measured."""
        every = {
            "one_way": self.one_way,
            "cliques": self.cliques,
            "halves": self.halves,
            "coarse": self.coarse,
            "tree": self.tree,
            "slices": self.slices,
        }
        return {name: step for name, step in every.items() if step is not None}

    @property
    def budget(self) -> float:
        """The share of all steps together."""
        return math.fsum(step.budget for step in self.steps.values())


class SecretCustody(Section):
    """Who keeps the secret outside the run directory; the other keys are the custody's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    custody: str = Field(description="as it is registered; the other keys are its own options")

    @property
    def options(self) -> dict[str, Any]:
        """Returns all keys except `custody`."""
        return dict(self.model_extra or {})


class Privacy(Section):
    """The promise. Everything here is fixed before any data is read."""

    epsilon: Real | None = Field(
        None,
        description="0.001 to 1000, or inf (NOT PRIVATE); null: noise_multiplier is given in its place",
        json_schema_extra={
            "anyOf": [{"type": "number", "minimum": 0.001, "maximum": 1000}, {"const": "inf"}, {"type": "null"}]
        },
    )
    noise_multiplier: Annotated[Real | list[Real] | None, NEWER] = Field(
        None,
        description="in place of epsilon, as papers publish it: sigma over sensitivity in each iteration, or a list of "
        "one an iteration; `plan` and the statement say the epsilon",
    )
    delta: Real = Field(gt=0, lt=1, description="a number, never computed from the data")
    adjacency: Literal["add-or-remove-one", "replace-one"] = Field(
        "add-or-remove-one", description="what makes two data sets neighbours"
    )
    unit: Literal["record", "client"] = Field("record", description="what is protected: a record, or all of a client's")
    label_counts: Literal["uniform"] | dict[Label, Real] = Field(
        "uniform", description="uniform, shares by label, or {budget: share of the budget that measures them}"
    )
    marginals: InitialMeasurement | None = Field(
        None,
        description="{budget: share of the budget}: one-way counts by label, for generators that use them",
    )
    measure: Annotated[Measure | None, NEWER] = Field(
        None,
        description="several initial measurements, the later ones chosen by what the earlier ones released, in place "
        "of marginals; null: none",
    )
    weights: list[Real] | None = Field(None, description="share of the budget of each iteration; null: equal")
    sampling_rate: Literal[1] | Real = Field(
        1,
        gt=0,
        le=1,
        description="probability with which a record, or a client with all its records, votes in an iteration, drawn "
        "anew in each; below 1 only with add-or-remove-one",
    )
    keep_secret: bool = Field(False, description="the secret stays after the run; may differ on a resume")
    secret: Annotated[SecretCustody | None, NEWER] = Field(
        None, description="who keeps the secret; null: private/secret.key in the run directory"
    )
    book: Annotated[str | None, NEWER] = Field(
        None,
        description="place of the budget book that the run enters before it spends (`pe-beam book`): a path relative "
        "to the recipe, or the URL of a store; null: none; a run stays in its book",
    )
    send_unprotected: bool = Field(
        False, description="epsilon = inf: candidates may go to a remote service all the same"
    )

    @model_validator(mode="after")
    def _check(self) -> Privacy:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            given = "both are given; set one of them to null" if self.epsilon is not None else "neither is given"
            raise ValueError(f"epsilon: from 0.001 to 1000, or inf, or noise_multiplier in its place; {given}")
        if self.epsilon is not None and not (self.epsilon == math.inf or 1e-3 <= self.epsilon <= 1000):
            raise ValueError("epsilon: from 0.001 to 1000, or inf")
        if self.noise_multiplier is not None:
            several = isinstance(self.noise_multiplier, list)
            values = self.noise_multiplier if several else [self.noise_multiplier]
            if not values or not all(0 < value < math.inf for value in values):  # type: ignore[operator,union-attr]
                raise ValueError("noise_multiplier: a finite number above 0, or a list of them")
            if self.weights is not None:
                raise ValueError("weights: only with epsilon; noise_multiplier may be a list, one an iteration")
        if self.weights is not None and not all(0 < w < math.inf for w in self.weights):
            raise ValueError("weights: finite numbers above 0")
        if self.sampling_rate < 1 and self.adjacency != "add-or-remove-one":
            raise ValueError("sampling_rate: below 1 only with adjacency add-or-remove-one")
        if self.marginals and self.measure:
            raise ValueError("measure: in place of marginals; leave one of them away")
        budget = self.label_budget()
        if not 0 <= budget < 1:
            raise ValueError("label_counts.budget: above 0 and below 1")
        return self

    @property
    def counts_columns(self) -> bool:
        """Whether columns are counted before the first iteration: `marginals` or `measure`."""
        return self.marginals is not None or self.measure is not None

    def multipliers(self, iterations: int) -> list[float] | None:
        """Returns the given noise multipliers of iterations 1 to T, or None. Raises ValueError if not T are given."""
        given = self.noise_multiplier
        if given is None:
            return None
        found = [float(value) for value in given] if isinstance(given, list) else [float(given)] * iterations
        if len(found) != iterations:
            raise ValueError(
                f"privacy.noise_multiplier: {len(found)} numbers, but evolution.iterations is {iterations}; one an "
                "iteration is wanted, or a single number"
            )
        return found

    def label_budget(self) -> float:
        """Returns the share of the budget for all initial measurements, or 0 without any."""
        if self.counts_columns:
            return (self.marginals or self.measure).budget  # type: ignore[union-attr]
        measured = isinstance(self.label_counts, dict) and set(self.label_counts) == {"budget"}
        return float(self.label_counts["budget"]) if measured else 0.0  # type: ignore[index]


class Stage(Section):
    """What one kind of worker needs, as Beam's resource hints; a runner that knows no hints ignores them."""

    min_ram: str | None = Field(None, description="memory of a worker, such as 8GB")
    cpu_count: Whole | None = Field(None, ge=1, description="cores of a worker")
    accelerator: str | None = Field(None, description="such as type:nvidia-l4;count:1;install-nvidia-driver")
    max_active_bundles_per_worker: Annotated[Whole | None, NEWER] = Field(
        None, ge=1, description="bundles at a time on a worker, as 1 where a model fills an accelerator; Beam 2.77"
    )


class Stages(Section):
    """The stages that may want machines of their own: votes want cores, generation wants accelerators."""

    ingest: Stage = Field(default_factory=Stage, description="reads and embeds private records, once")
    embed: Stage = Field(default_factory=Stage, description="embeds candidates, lookahead variations included")
    vote: Stage = Field(default_factory=Stage, description="finds the nearest candidates of each record")
    generate: Stage = Field(default_factory=Stage, description="makes new candidates")

    def hints(self) -> dict[str, dict[str, str]]:
        """Returns stage -> the hints that are set, in Beam's form."""
        given = self.model_dump(exclude_none=True)
        return {stage: {key: str(value) for key, value in hints.items()} for stage, hints in given.items() if hints}


class Execution(Section):
    """Speed only: nothing here changes privacy or the result, and it may change between resumes."""

    runner: str = Field("FnApiRunner", description="used where the Beam flags name no runner")
    beam_args: list[str] = Field(default_factory=list, description="Beam flags put before those given")
    parallelism: Whole | None = Field(None, ge=1, description="workers, as the runner's own flag; flags count more")
    blas_threads: Whole | None = Field(None, ge=1, description="threads of BLAS in a process; null: as it chooses")
    stages: Stages = Field(default_factory=Stages, description="resource hints by stage")
    llm: Service = Field(default_factory=Service, description="the service that a generator asks")
    embeddings: Service = Field(default_factory=Service, description="the service that an embedder asks")
    search_engine: str = Field(
        "auto",
        description="what proposes the nearest candidates, as it is registered: auto (the fastest, tried on candidates "
        "once a process), blas, faiss, int8, prefix, torch, or one of your own; votes are the same with any",
    )
    search_memory: Annotated[str, NEWER] = Field(
        "1GB",
        pattern=r"^[1-9][0-9]{0,5}(MB|GB)$",
        description="for all that a search holds of a label's candidates; larger ones are walked through in parts",
    )
    vote_batch: Whole = Field(8192, ge=1, description="private records voted on at a time, up to a shard")

    @property
    def search_bytes(self) -> int:
        """`search_memory` in bytes."""
        return int(self.search_memory[:-2]) * {"MB": 1 << 20, "GB": 1 << 30}[self.search_memory[-2:]]


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
                raise ValueError(f"stream: source {self.data.source} has no windows; allowed: {_those_that_take(need)}")
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
