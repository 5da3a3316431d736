"""The recipe: the YAML file that says all of a run, as frozen typed models with unknown keys refused.

A resolved recipe has its defaults filled in. `run_id` hashes what shapes the release: everything but
`execution`, `data.path` and `privacy.keep_secret` (DESIGN, privacy rule 3).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pe_beam import registry
from pe_beam.contracts.newer import NEWER, without_newer_defaults
from pe_beam.contracts.service import Service
from pe_beam.errors import RecipeError
from pe_beam.names import JOINT, label_parts
from pe_beam.numbers import Real, Whole, json_number
from pe_beam.recipe.explain import explain
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.selection.threshold import threshold_in_votes


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Split(_Section):
    """A cut of the data: what it sets aside is never private data."""

    share: Real = Field(0.3, gt=0, lt=1, description="share of the records set aside, in expectation")
    random_state: Whole = Field(0, ge=0, description="seed of the cut")


def _label(value: Any) -> str:
    """A label as text: YAML makes numbers and dates of some, and true or false of yes and no."""
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


def _same_form(value: Any) -> Any:
    """Plain data with its texts and keys in Unicode form NFC, so that they are compared as names are."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {_same_form(key): _same_form(inner) for key, inner in value.items()}
    return [_same_form(inner) for inner in value] if isinstance(value, list) else value


def _separator(value: Any) -> Any:
    return "\t" if value in ("tab", "\\t") else value


Label = Annotated[str, BeforeValidator(_label)]
_TEXTS: dict[str, Any] = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}
MAX_LABELS = 100_000


class Data(_Section):
    """Where the private records lie, and what is declared of them."""

    source: Literal["sklearn", "folder", "parquet", "csv", "jsonl"] = Field(description="what kind of files they are")
    path: str = Field(description="a data set's name, a folder, a file or a glob; may differ on a resume")
    columns: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="role (a payload field, label, client) -> column; label: one or several",
    )
    table_schema: dict[str, Any] | str | None = Field(
        None, alias="schema", description="columns as a modality declares them, or a YAML or JSON file that says so"
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
    chat: Annotated[bool, NEWER] = Field(
        False, description="JSONL, Parquet: lists of messages with role and content are read as lines 'role: content'"
    )

    @model_validator(mode="before")
    @classmethod
    def _in_one_form(cls, raw: Any) -> Any:
        """Names in one Unicode form, and a holdout's path out of its mapping."""
        if not isinstance(raw, Mapping):
            return raw
        raw = dict(raw)
        raw |= {key: _same_form(raw[key]) for key in ("columns", "schema") if isinstance(raw.get(key), Mapping)}
        holdout = raw.get("holdout")
        if isinstance(holdout, Mapping) and "path" in holdout:
            if set(holdout) != {"path"} or not isinstance(holdout["path"], str):
                raise ValueError("holdout: a path, or a cut with share and random_state; not both")
            raw["holdout"] = holdout["path"]
        return cls._combine(raw)

    @classmethod
    def _combine(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """Labels by column become one list of all combinations, and data.columns.label the columns."""
        labels = _same_form(raw.get("labels"))
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
        if self.never_stop and self.source == "csv":
            raise ValueError(
                "never_stop: refused for source csv, where one damaged line can swallow others; allowed: parquet, "
                "folder, jsonl, sklearn"
            )
        known: dict[tuple[str, ...], str] = {}
        for label in self.labels or ():
            other = known.setdefault(label_parts(label, several=isinstance(several, list) and len(several) > 1), label)
            if other != label:
                raise ValueError(f"labels: {other!r} and {label!r} are one label in two spellings; one is wanted")
        if self.source != "csv" and self.separator != ",":
            raise ValueError("separator: is for source csv")
        if self.source not in ("jsonl", "parquet") and self.chat:
            raise ValueError("chat: is for sources jsonl and parquet")
        return self


class Part(_Section):
    """A generator or an embedder: its registered name; the other keys are its own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(description="as it is registered; the other keys are its own options")

    @property
    def options(self) -> dict[str, Any]:
        """The keys besides the name."""
        return dict(self.model_extra or {})


Schedule = Real | list[Real] | dict[str, Any]


Threshold = Real | str
Selection = Literal["multinomial", "systematic", "rank"]


class Turn(_Section):
    """How one iteration selects and multiplies."""

    threshold: Threshold
    selection: Selection
    variations: int
    keep_parents: bool

    @property
    def family(self) -> int:
        """Candidates that one selected row gives."""
        return self.variations + int(self.keep_parents)


class Phase(_Section):
    """What is different from an iteration on; null: as before."""

    first: Whole = Field(alias="from", ge=1, description="the first iteration that it concerns")
    threshold: Threshold | None = Field(None, description="as evolution.threshold")
    selection: Selection | None = Field(None, description="as evolution.selection")
    variations: Whole | None = Field(None, ge=0, description="as evolution.variations")
    keep_parents: bool | None = Field(None, description="as evolution.keep_parents")


class Evolution(_Section):
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
    search: Literal["exact"] = Field("exact", description="how the nearest candidate is found")
    variations: Whole = Field(1, ge=0, description="variations of each selected row")
    keep_parents: bool = Field(False, description="whether selected rows stay beside their variations")
    phases: list[Phase] = Field(
        default_factory=list, description="threshold, selection, variations, keep_parents from an iteration on"
    )
    final: Literal["varied", "selected"] = Field("varied", description="what the last population holds")

    @model_validator(mode="after")
    def _check(self) -> Evolution:
        starts = [phase.first for phase in self.phases]
        if starts != sorted(set(starts)) or any(start > self.iterations for start in starts):
            raise ValueError("phases: from has to rise from one to the next, up to iterations")
        for iteration in [1, *starts]:
            turn = self.turn(iteration)
            if turn.family == 0:
                raise ValueError("variations: 0 needs keep_parents: true")
            if threshold_in_votes(turn.threshold, 1.0) is None and self.smoothing:
                raise ValueError("threshold: auto is for votes that are not pooled; smoothing needs a fixed one")
        degrees = resolve_schedule(self.degree, self.iterations, name="evolution.degree")
        if not all(0 <= degree <= 1 for degree in degrees):
            raise ValueError("degree: from 0 to 1")
        self.populations()
        return self

    def family(self) -> int:
        """Candidates that one selected row gives, at most."""
        return max(self.turn(t).family for t in [1, *(phase.first for phase in self.phases)])

    def turn(self, iteration: int) -> Turn:
        """How iteration t selects and multiplies, `final` left out."""
        values = {name: getattr(self, name) for name in Turn.model_fields}
        for phase in self.phases:
            if phase.first <= iteration:
                values |= phase.model_dump(include=set(values), exclude_none=True)
        return Turn(**values)

    def family_at(self, iteration: int) -> tuple[int, bool]:
        """Variations of a selected row in iteration t, and whether the row itself stays."""
        if iteration == self.iterations and self.final == "selected":
            return 0, True
        turn = self.turn(iteration)
        return turn.variations, turn.keep_parents

    def generator_calls(self, iterations: Iterable[int]) -> int:
        """Candidates and lookahead variations that are asked for in these iterations; a kept parent counts as made."""
        sizes = self.populations()
        return sum(sizes[t] + (self.lookahead * sizes[t - 1] if t else 0) for t in iterations)

    def populations(self) -> list[int]:
        """Sizes of populations 0 to T; the last is `samples`. Those between are whole families."""
        value = self.samples if self.population is None else self.population
        sizes = [round(x) for x in resolve_schedule(value, self.iterations, name="evolution.population")]
        if min(sizes) < 1:
            raise ValueError("population: at least 1")
        families = [self.turn(t).family for t in range(self.iterations + 1)]
        if self.final == "varied" and self.samples % families[-1]:
            raise ValueError(f"samples: a multiple of {families[-1]}, the rows of a family, is wanted")
        whole = [max(1, size // family) * family for size, family in zip(sizes, families, strict=False)]
        return [sizes[0], *whole[1:], self.samples]


class Bought(_Section):
    """What is bought before the first iteration."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")


class Privacy(_Section):
    """The promise. Everything here is fixed before any data is read."""

    epsilon: Real = Field(
        description="0.001 to 1000, or inf (NOT PRIVATE)",
        json_schema_extra={"anyOf": [{"type": "number", "minimum": 0.001, "maximum": 1000}, {"const": "inf"}]},
    )
    delta: Real = Field(gt=0, lt=1, description="a number, never computed from the data")
    adjacency: Literal["add-or-remove-one", "replace-one"] = Field(
        "add-or-remove-one", description="what makes two data sets neighbours"
    )
    unit: Literal["record", "client"] = Field("record", description="what is protected: a record, or all of a client's")
    label_counts: Literal["uniform"] | dict[Label, Real] = Field(
        "uniform", description="uniform, shares by label, or {budget: share of the budget that buys them}"
    )
    marginals: Bought | None = Field(
        None,
        description="{budget: share of the budget}: one-way counts by label, for generators that use them",
    )
    weights: list[Real] | None = Field(None, description="share of the budget of each iteration; null: equal")
    sampling_rate: Literal[1] = Field(1, description="share of the records that vote in an iteration")
    keep_secret: bool = Field(False, description="private/secret.key stays after the run; may differ on a resume")
    send_unprotected: bool = Field(
        False, description="epsilon = inf: candidates may go to a remote service all the same"
    )

    @model_validator(mode="after")
    def _check(self) -> Privacy:
        if not (self.epsilon == math.inf or 1e-3 <= self.epsilon <= 1000):
            raise ValueError("epsilon: from 0.001 to 1000, or inf")
        if self.weights is not None and not all(0 < w < math.inf for w in self.weights):
            raise ValueError("weights: finite numbers above 0")
        budget = self.label_budget()
        if not 0 <= budget < 1:
            raise ValueError("label_counts.budget: above 0 and below 1")
        return self

    def label_budget(self) -> float:
        """Share of the budget that iteration 0 spends on label shares or marginals; 0 where it buys none."""
        if self.marginals:
            return self.marginals.budget
        bought = isinstance(self.label_counts, dict) and set(self.label_counts) == {"budget"}
        return float(self.label_counts["budget"]) if bought else 0.0  # type: ignore[index]


class Stage(_Section):
    """What one kind of worker needs, as Beam's resource hints; a runner that knows no hints ignores them."""

    min_ram: str | None = Field(None, description="memory of a worker, such as 8GB")
    cpu_count: Whole | None = Field(None, ge=1, description="cores of a worker")
    accelerator: str | None = Field(None, description="such as type:nvidia-l4;count:1;install-nvidia-driver")


class Stages(_Section):
    """The stages that may want machines of their own: votes want cores, generation wants accelerators."""

    ingest: Stage = Field(default_factory=Stage, description="reads and embeds private records, once")
    embed: Stage = Field(default_factory=Stage, description="embeds candidates, lookahead variations included")
    vote: Stage = Field(default_factory=Stage, description="finds the nearest candidates of each record")
    generate: Stage = Field(default_factory=Stage, description="makes new candidates")

    def hints(self) -> dict[str, dict[str, str]]:
        """Stage -> the hints that are set, as Beam takes them."""
        given = self.model_dump(exclude_none=True)
        return {stage: {key: str(value) for key, value in hints.items()} for stage, hints in given.items() if hints}


class Execution(_Section):
    """Speed only: nothing here changes privacy or the result, and it may change between resumes."""

    runner: str = Field("FnApiRunner", description="used where the Beam flags name no runner")
    beam_args: list[str] = Field(default_factory=list, description="Beam flags put before those given")
    parallelism: Whole | None = Field(None, ge=1, description="workers, as the runner's own flag; flags count more")
    blas_threads: Whole | None = Field(None, ge=1, description="threads of BLAS in a process; null: as it chooses")
    stages: Stages = Field(default_factory=Stages, description="resource hints by stage")
    llm: Service = Field(default_factory=Service, description="the service that a generator asks")
    embeddings: Service = Field(default_factory=Service, description="the service that an embedder asks")
    vote_batch: Whole = Field(8192, ge=1, description="private records voted on at a time, up to a shard")


class Recipe(_Section):
    """All of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="of the run; it is released")
    seed: Whole = Field(0, description="of all that is random but the noise")
    data: Data = Field(description="where the private records lie, and what is declared of them")
    modality: str = Field(description="the kind of record, as it is registered")
    generator: Part = Field(description="what makes candidates")
    embedder: Part = Field(description="what makes vectors of records and candidates")
    evolution: Evolution = Field(description="how candidates compete and multiply")
    privacy: Privacy = Field(description="the promise")
    execution: Execution = Field(default_factory=Execution, description="speed only")

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        labels = self.data.labels
        shares = self.privacy.label_counts
        if isinstance(shares, dict) and self.privacy.label_budget() == 0:
            if labels is None or set(shares) != set(labels):
                raise ValueError("privacy.label_counts: one share for each of data.labels, or budget")
            if not all(0 <= share < math.inf for share in shares.values()) or sum(shares.values()) <= 0:
                raise ValueError("privacy.label_counts: shares of 0 or more, not all 0")
        bought = self.privacy.label_budget() if self.privacy.marginals is None else 0
        if bought and labels is None:
            raise ValueError("privacy.label_counts: label shares cannot be bought without data.labels")
        if bought and "budget" in (labels or []):
            raise ValueError("privacy.label_counts: a label named budget makes this ambiguous; give it another name")
        for iteration, size in enumerate(self.evolution.populations()):
            wanted = self.label_count * (sum(self.evolution.family_at(iteration)) if iteration else 1)
            if size < wanted:
                raise ValueError(
                    f"evolution: samples and population must be {wanted} at least (labels times rows of a family)"
                )
        if self.privacy.marginals and shares != "uniform":
            raise ValueError("privacy.label_counts: bought marginals say the label shares; leave it away")
        weights = self.privacy.weights
        if weights is not None and len(weights) != self.evolution.iterations:
            raise ValueError("privacy.weights: one for each iteration")
        return self

    @property
    def label_count(self) -> int:
        """How many declared labels there are; 1 without labels."""
        return len(self.data.labels or [None])

    @property
    def label_list(self) -> list[str | None]:
        """The declared labels; [None] without labels."""
        return list(self.data.labels) if self.data.labels is not None else [None]

    @property
    def private(self) -> bool:
        """False at epsilon = inf."""
        return self.privacy.epsilon != math.inf


def load_recipe(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """Reads, overrides and checks a recipe.

    Args:
      path: a YAML file.
      overrides: "a.b=c" strings (c is read as YAML), or a mapping of dotted keys to values.

    Raises:
      RecipeError: unreadable file, unknown key (the nearest is suggested), or a value out of its range.
    """
    raw = _read_yaml(Path(path), "recipe")
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {path}: a mapping with the sections of a recipe is wanted")
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else [_pair(x) for x in overrides]
    for key, value in pairs:
        set_key(raw, key, value)
    return parse_recipe(raw, folder=Path(path).parent)


_NO_VALUE = "a date that does not exist (a day as YYYY-MM-DD is wanted), or a number that is far too long"


def _read_yaml(path: Path, key: str) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RecipeError(f"{key} {path}: cannot be read ({reason})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{key} {path}: not valid YAML{where}") from error
    except RecursionError:
        raise RecipeError(f"{key} {path}: nested too deeply") from None
    except ValueError as error:  # 2020-13-01, or a number of thousands of digits
        raise RecipeError(f"{key} {path}: not valid YAML: {_NO_VALUE}") from error


def parse_recipe(raw: Mapping[str, Any], *, folder: str | Path = ".") -> Recipe:
    """Checks a recipe given as plain data; raises RecipeError as `load_recipe` does.

    Args:
      raw: the sections.
      folder: where a relative `data.schema` file lies: `load_recipe` names the recipe's own.
    """
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, Recipe)) from None
    except RecursionError:
        raise RecipeError("recipe: nested too deeply") from None
    return _resolve_parts(_resolve_schema(recipe, Path(folder)), Path(folder))


def _resolve_schema(recipe: Recipe, folder: Path) -> Recipe:
    """Puts a schema file's content into the recipe and fills in what it leaves out."""
    model = registry.find("modalities", recipe.modality, key="modality").schema_model
    given = recipe.data.table_schema
    if (model is None) != (given is None):
        rule = "takes none" if model is None else "wants one: the columns, as docs/tables.md says"
        raise RecipeError(f"data.schema: modality {recipe.modality!r} {rule}")
    if model is None:
        return recipe
    raw = _same_form(_read_yaml(folder / given, "data.schema") if isinstance(given, str) else given)
    try:
        found = model.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, model, "data.schema")) from None
    plain = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"table_schema": plain})})


def _resolve_parts(recipe: Recipe, folder: Path) -> Recipe:
    """Fills in the options of generator and embedder, so that a resolved recipe says everything."""
    parts = {}
    for key, kind in (("generator", "generators"), ("embedder", "embedders")):
        part: Part = getattr(recipe, key)
        cls = registry.find(kind, part.name, key=f"{key}.name")
        if not registry.fits(cls, recipe.modality):
            allowed = ", ".join(registry.names_for(kind, recipe.modality)) or "none installed"
            raise RecipeError(
                f"{key}.name: {part.name!r} is for modality {cls.modality!r}, not for {recipe.modality!r} "
                f"(allowed: {allowed})"
            )
        raw = _with_files(part.options, folder, key)
        try:
            options = cls.Options.model_validate(raw)
        except ValidationError as error:
            raise RecipeError(explain(error, raw, cls.Options, key)) from None
        parts[key] = Part(name=part.name, **options.model_dump(mode="json", by_alias=True))
    return recipe.model_copy(update=parts)


def _with_files(value: Any, folder: Path, key: str) -> Any:
    """Options with the content of a text file wherever they say {file: PATH}, relative to the recipe."""
    if isinstance(value, dict):
        if set(value) == {"file"} and isinstance(value["file"], str):
            try:
                return (folder / value["file"]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise RecipeError(f"{key}.file: {value['file']!r} cannot be read ({reason})") from None
        return {_text_key(name): _with_files(inner, folder, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, folder, key) for inner in value]
    return value


def _text_key(key: Any) -> Any:
    """A key of options as text: it may be a label that YAML takes for a number."""
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else _same_form(key)


def _pair(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"--set {text!r}: a.b=c is wanted")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text!r}: the value is not valid YAML") from error
    except ValueError as error:
        raise RecipeError(f"--set {key.strip()}: {_NO_VALUE}") from error


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of a recipe as plain data; RecipeError where a section is in the way."""
    *parents, last = key.split(".")
    for name in parents:
        below = raw.setdefault(name, {})
        if not isinstance(below, dict):
            raise RecipeError(f"--set {key}: {name} is not a section")
        raw = below
    raw[last] = value


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain data, infinity as "inf"."""
    plain = recipe.model_dump(mode="python", by_alias=True)
    return _without_inf(plain)


def _without_inf(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_inf(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_inf(v) for v in value]
    return json_number(value) if isinstance(value, float) else value


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.safe_dump(to_plain(recipe), sort_keys=False, allow_unicode=True)


def identity(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain data, without newer keys that are at their default (`pe_beam.contracts.newer`)."""
    plain = without_newer_defaults(recipe, to_plain(recipe))
    for key, kind in (("generator", "generators"), ("embedder", "embedders")):
        part: Part = getattr(recipe, key)
        options = registry.find(kind, part.name, key=f"{key}.name").Options.model_validate(part.options)
        plain[key] = without_newer_defaults(options, plain[key])
    schema = declared_schema(recipe)
    if schema is not None:
        plain["data"]["schema"] = without_newer_defaults(schema, plain["data"]["schema"])
    return plain


def declared_schema(recipe: Recipe) -> BaseModel | None:
    """What data.schema declares; None: the modality takes no schema."""
    model = registry.find("modalities", recipe.modality, key="modality").schema_model
    found: BaseModel | None = None if model is None else model.model_validate(recipe.data.table_schema)
    return found


def _shaping(recipe: Recipe) -> dict[str, Any]:
    plain = identity(recipe)
    del plain["execution"], plain["data"]["path"], plain["privacy"]["keep_secret"]
    return plain


def run_id(recipe: Recipe) -> str:
    """SHA-256 (hex) of all that shapes the release."""
    canonical = json.dumps(_shaping(recipe), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"pe_beam/run/1" + canonical.encode()).hexdigest()


def differing_keys(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys in which two recipes would give different releases."""
    return sorted(_differ(_shaping(old), _shaping(new), ""))


def _differ(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            key
            for name in {*old, *new}
            for key in _differ(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if old == new else [path]
