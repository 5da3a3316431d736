"""Filters by a rule: a pattern, a length, a language, a JSON schema, or a function of the user's."""

from __future__ import annotations

import importlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, field_validator, model_validator

from pe_beam import contracts
from pe_beam.contracts.filter import Filter
from pe_beam.contracts.generator import Chunk
from pe_beam.errors import MissingExtraError, RecipeError, StageError
from pe_beam.filters.patterns import Pattern
from pe_beam.modalities.text.words import word_count
from pe_beam.numbers import Whole


class ColumnOptions(contracts.Options):
    """Options of a filter that reads one text."""

    column: str = Field("text", description="of the candidate's content, a text", json_schema_extra={"public": True})


class ColumnFilter(Filter):
    """A filter of one column with texts. A candidate without a text there does not pass."""

    name: ClassVar[str]

    def __init__(self, options: BaseModel, *, payload: pa.Schema, labels: Sequence[str | None]) -> None:
        """See Filter."""
        self._options = self.Options.model_validate(options.model_dump(by_alias=True))
        self._column: str = self._options.column  # type: ignore[attr-defined]
        texts = [field.name for field in payload if pa.types.is_string(field.type)]
        if self._column not in texts:
            raise RecipeError(
                f"evolution.filters, {self.name}: column {self._column!r} is no text of these records "
                f"(allowed: {', '.join(texts) or 'there is none'})"
            )

    def passing(
        self, candidates: pa.Table, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> Sequence[bool]:
        """See Filter."""
        return [text is not None and self.takes(text) for text in candidates[self._column].to_pylist()]

    @abstractmethod
    def takes(self, text: str) -> bool:
        """Returns whether a text passes."""


class RegexOptions(ColumnOptions):
    """Options of filter `regex`."""

    pattern: Pattern = Field(
        description="a regular expression of Python, searched anywhere in the text, without a limit of time: (a+)+b "
        "may take for ever",
        json_schema_extra={"public": True},
    )
    must: Literal["match", "not match"] = Field("match", description="what passes")


class Regex(ColumnFilter):
    """Passes texts in which a pattern is found, or is not."""

    name = "regex"
    Options = RegexOptions

    def takes(self, text: str) -> bool:
        """See ColumnFilter."""
        assert isinstance(self._options, RegexOptions)
        return (re.search(self._options.pattern, text) is not None) == (self._options.must == "match")


class LengthOptions(ColumnOptions):
    """Options of filter `length`."""

    unit: Literal["characters", "words"] = Field("characters", description="what is counted")
    least: Whole = Field(0, ge=0, description="shorter texts do not pass")
    most: Whole | None = Field(None, ge=0, description="longer texts do not pass; null: no limit")

    @model_validator(mode="after")
    def _check(self) -> LengthOptions:
        if self.most is not None and self.most < self.least:
            raise ValueError("most: is below least, so that nothing passes")
        return self


class Length(ColumnFilter):
    """Passes texts of some lengths."""

    name = "length"
    Options = LengthOptions

    def takes(self, text: str) -> bool:
        """See ColumnFilter."""
        assert isinstance(self._options, LengthOptions)
        count = len(text) if self._options.unit == "characters" else word_count(text)
        return self._options.least <= count and (self._options.most is None or count <= self._options.most)


class LanguageOptions(ColumnOptions):
    """Options of filter `language`."""

    allowed: list[str] = Field(
        min_length=1, description="codes of languages, such as en", json_schema_extra={"public": True}
    )

    @field_validator("allowed")
    @classmethod
    def _codes(cls, value: list[str]) -> list[str]:
        wrong = [code for code in value if not re.fullmatch("[a-z]{2,3}", code)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no code of a language, such as en")
        return value


class Language(ColumnFilter):
    """Passes texts in some languages. A text with fewer than 20 letters passes: its language cannot be told."""

    name = "language"
    Options = LanguageOptions

    def ready(self) -> None:
        """See Filter."""
        from pe_beam.modalities.text.cleaning import language_of

        language_of("a text that is long enough to tell its language")

    def takes(self, text: str) -> bool:
        """See ColumnFilter."""
        from pe_beam.modalities.text.cleaning import language_of

        assert isinstance(self._options, LanguageOptions)
        found = language_of(text)
        return found is None or found in self._options.allowed


class JsonSchemaOptions(ColumnOptions):
    """Options of filter `json-schema`."""

    json_schema: dict[str, Any] = Field(
        alias="schema", description="a JSON Schema, or its file", json_schema_extra={"public": True}
    )

    @field_validator("json_schema", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class JsonSchema(ColumnFilter):
    """Passes texts that are JSON and agree with a schema. Nothing that a schema refers to is fetched."""

    name = "json-schema"
    Options = JsonSchemaOptions

    def __init__(self, options: BaseModel, *, payload: pa.Schema, labels: Sequence[str | None]) -> None:
        """See Filter."""
        super().__init__(options, payload=payload, labels=labels)
        assert isinstance(self._options, JsonSchemaOptions)
        try:
            import jsonschema  # type: ignore[import-untyped]
            from referencing import Registry, Resource
            from referencing.exceptions import Unresolvable
            from referencing.jsonschema import DRAFT202012, UnknownDialect
        except ImportError:
            raise MissingExtraError("evolution.filters, json-schema: needs the package jsonschema") from None
        kind = jsonschema.validators.validator_for(self._options.json_schema)
        try:
            kind.check_schema(self._options.json_schema)
        except jsonschema.SchemaError as error:
            raise RecipeError(f"evolution.filters, json-schema: no JSON Schema ({error.message})") from None
        self._validator = kind(self._options.json_schema, registry=Registry())
        try:
            root = Resource.from_contents(self._options.json_schema, default_specification=DRAFT202012)
            _find_references(Registry().resolver_with_root(root), root)
        except (Unresolvable, UnknownDialect):
            raise RecipeError(_ELSEWHERE) from None

    def takes(self, text: str) -> bool:
        """See ColumnFilter."""
        from referencing.exceptions import Unresolvable

        try:
            found: bool = self._validator.is_valid(json.loads(text, parse_constant=_refuse_constant))
        except (ValueError, RecursionError, OverflowError):  # of numbers that no float can hold
            return False
        except Unresolvable:
            raise StageError(_ELSEWHERE) from None
        return found


_ELSEWHERE = "evolution.filters, json-schema: the schema refers to one that is not in it"


def _find_references(resolver: Any, schema: Any) -> None:
    """Looks up what a schema, a `referencing.Resource`, and its parts refer to. Raises Unresolvable."""
    if isinstance(schema.contents, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(schema.contents.get(key), str):
                resolver.lookup(schema.contents[key])
    for part in schema.subresources():
        _find_references(resolver.in_subresource(part), part)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class FunctionOptions(contracts.Options):
    """Options of filter `python`."""

    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:name of a function of a candidate (a dict of label and content) that returns whether it "
        "passes; the same candidate has to give the same answer",
    )


class Function(Filter):
    """Passes what a function of the user's says. It has to be independent of private data."""

    Options = FunctionOptions

    def __init__(self, options: BaseModel, *, payload: pa.Schema, labels: Sequence[str | None]) -> None:
        """See Filter."""
        self._name = FunctionOptions.model_validate(options.model_dump()).function
        module, _, name = self._name.partition(":")
        try:
            self._function: Callable[[Mapping[str, Any]], Any] = getattr(importlib.import_module(module), name)
        except Exception as error:  # a module of the user's may raise anything
            raise RecipeError(
                f"evolution.filters, python: {self._name!r} is not found ({type(error).__name__}); it has to be "
                "importable by the driver and all workers"
            ) from None
        if not callable(self._function):
            raise RecipeError(f"evolution.filters, python: {self._name!r} is no function")

    def passing(
        self, candidates: pa.Table, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> Sequence[bool]:
        """See Filter. Raises StageError if the function raises, or returns anything but a boolean."""
        return [self._asked(candidate) for candidate in candidates.to_pylist()]

    def _asked(self, candidate: Mapping[str, Any]) -> bool:
        try:
            found = self._function(candidate)
        except Exception as error:
            raise StageError(f"evolution.filters, python: {self._name} raised {type(error).__name__}") from error
        if not isinstance(found, bool | np.bool_):
            raise StageError(f"evolution.filters, python: {self._name} gave {type(found).__name__}, not True or False")
        return bool(found)
