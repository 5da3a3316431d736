"""Where the private records lie: the section `data`."""

from __future__ import annotations

import codecs
import itertools
import math
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from pe_beam import registry
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.source import BARRED, Encoding
from pe_beam.names import JOINT, label_parts
from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section


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


def _encoding(value: Any) -> Any:
    """Returns the name as it is declared of an encoding that Python knows by this name as well, such as latin-1."""
    known = get_args(Encoding)
    try:
        asked = codecs.lookup(value).name
    except (LookupError, TypeError, ValueError):
        return value
    return next((name for name in known if codecs.lookup(name).name == asked), value)


def those_that_take(what: str) -> str:
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
    expected_records: Whole | None = Field(
        None, gt=0, description="a public guess, for planning only; with privacy.unit: client, of clients"
    )
    max_rejects: Real = Field(0.05, ge=0, le=1, description="share of rejected records that stops the run")
    never_stop: Annotated[bool, NEWER] = Field(
        False,
        description="no record stops the run: rejects abstain, and nothing is said of them; not for CSV",
    )
    separator: Annotated[Literal[",", ";", "\t", "|"], BeforeValidator(_separator), NEWER] = Field(
        ",", description="what parts the fields of CSV; tab is taken too"
    )
    encoding: Annotated[Encoding, BeforeValidator(_encoding), NEWER] = Field(
        "utf-8", description="how files of CSV write their text; other names that Python has for these are taken too"
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
                + those_that_take("never_stop")
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
        wanted = {"separator": self.separator != ",", "encoding": self.encoding != "utf-8", "chat": self.chat}
        for key, asked in wanted.items():
            if asked and key not in source.takes:
                raise ValueError(f"{key}: source {self.source} makes no use of it; allowed: {those_that_take(key)}")
        if self.separator == "|" and self.encoding in BARRED:
            raise ValueError(
                f"encoding: {self.encoding} has characters with the byte of a bar in them; separator: another"
            )
        return self
