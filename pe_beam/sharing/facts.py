"""What a release says of itself: its promise and its recipe, in the words that all forms share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pe_beam.errors import InputError
from pe_beam.privacy.statement import rounded_up
from pe_beam.releases.privacy import Privacy, as_privacy
from pe_beam.releases.reading import Release

SOURCE = "https://arxiv.org/abs/2305.15560"
"""The paper on Private Evolution."""
_RELATION = {
    "add-or-remove-one": "Two data sets are neighbours if one has all the records of the other and one {unit} "
    "more{all}.",
    "replace-one": "Two data sets are neighbours if they have as many {unit}s and differ in one of them{all}.",
}


@dataclass(frozen=True)
class Facts:
    """What is publicly known of a complete release.

    Attributes:
      privacy: the content of `privacy.json`.
      recipe: the content of `recipe.json`, the public form of the recipe.
      private: False if there is no promise (epsilon = infinity).
      columns: names of the columns of a record, the label among them if there is one.
      labels: the declared labels; empty: there are none.
      whole: False if the promise is that of one window of a stream, and not of the stream.
    """

    privacy: Privacy
    recipe: Mapping[str, Any]
    private: bool
    columns: Sequence[str]
    labels: Sequence[str]
    whole: bool = True

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.recipe.get("name", "release"))

    @property
    def modality(self) -> str:
        """What a record is: image, text, tabular, or a third party's."""
        return str(self.recipe.get("modality", "unknown"))

    @property
    def epsilon(self) -> str:
        """The promised epsilon with six digits, rounded up."""
        return rounded_up(self.privacy["epsilon"])

    @property
    def generators(self) -> list[str]:
        """Names of the generators."""
        holders = self.recipe.get("generators") or [self.recipe]
        return [str(holder["generator"]["name"]) for holder in holders if "generator" in holder]

    @property
    def embedder(self) -> str:
        """Name of the embedder."""
        return str(self.recipe.get("embedder", {}).get("name", "unknown"))

    @property
    def filters(self) -> list[str]:
        """Names of the filters that candidates had to pass."""
        return [str(each["name"]) for each in self.recipe.get("evolution", {}).get("filters", [])]

    @property
    def in_stream(self) -> bool:
        """Whether the release is one window of a stream."""
        return self.recipe.get("stream") is not None

    @property
    def expected_records(self) -> int | None:
        """The number of records that the holder has declared as a public guess."""
        found = self.recipe.get("data", {}).get("expected_records")
        return found if isinstance(found, int) else None

    @property
    def neighbours(self) -> str:
        """The neighbouring relation as a sentence."""
        unit = self.privacy["unit"]
        own = ", with all its records" if unit == "client" else ""
        return _RELATION[self.privacy["adjacency"]].format(unit=unit, all=own)

    @property
    def measured(self) -> str | None:
        """What was measured before the first iteration, with sigma over sensitivity of each part, or None."""
        steps = dict(self.privacy).get("measurements")
        if isinstance(steps, list) and steps:
            said = ", ".join(f"{each['step']} {each['noise_multiplier']:.6g}" for each in steps)
            return f"marginals of columns in {len(steps)} step(s) ({said})"
        noise = self.privacy["label_shares_noise_multiplier"]
        if noise is None:
            return None
        what = "marginals of columns" if self.recipe.get("privacy", {}).get("marginals") else "counts of labels"
        return f"{what} ({noise:.6g})"

    @property
    def best_guess(self) -> str:
        """How often who knows all other records guesses right whether one took part, at even odds, at most.

        (e^epsilon + delta) / (e^epsilon + 1), rounded up. Source: Kairouz, Oh and Viswanath 2015.
        """
        grown = math.exp(-self.privacy["epsilon"])
        return f"{math.ceil((1 + self.privacy['delta'] * grown) / (1 + grown) * 1000) / 10:.1f}%"


def facts_of(release: Release, promise: Mapping[str, Any] | None = None) -> Facts:
    """Returns the facts of a complete release.

    Args:
      release: of a run, or of a window of a stream.
      promise: epsilon, delta and statement of the stream that the window is of, which count more than the window's own.

    Raises:
      InputError: it is not complete, or a file of it is damaged or missing, or says what no version of ours writes.
    """
    privacy, recipe = release.privacy, release.recipe
    if not release.complete or privacy is None or recipe is None:
        raise InputError(f"{release.folder}: this run is not complete yet; run it to its end first")
    if privacy["adjacency"] not in _RELATION or privacy["unit"] not in ("record", "client"):
        raise InputError(f"{release.folder}/privacy.json: damaged (adjacency or unit); the file as released is wanted")
    _demand_form(recipe, f"{release.folder}/recipe.json")
    if promise is not None:
        told = {key: promise[key] for key in ("epsilon", "delta", "statement")}
        privacy = as_privacy({**privacy, **told}, "stream.json")
    columns = release.records().column_names
    labels = list(release.manifest(release.iteration)["candidates"]) if "label" in columns else []
    declared = recipe.get("data", {}).get("labels")
    if isinstance(declared, list) and sorted(map(str, declared)) == sorted(labels):
        labels = [str(label) for label in declared]
    whole = promise is not None or recipe.get("stream") is None
    return Facts(privacy, recipe, release.private, columns, labels, whole)


def _demand_form(recipe: Mapping[str, Any], name: str) -> None:
    """Raises InputError if a part of the public recipe has another form than ours: a release may be anybody's."""
    parts = recipe.get("generators", [recipe])
    evolution = recipe.get("evolution", {})
    filters = evolution.get("filters", []) if isinstance(evolution, Mapping) else None
    named = [holder.get("generator") if isinstance(holder, Mapping) else None for holder in _listed(parts)]
    named += [recipe.get("embedder"), *_listed(filters)]
    sections = [recipe.get(key, {}) for key in ("data", "evolution", "privacy")]
    fine = all(isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in named)
    if not (fine and all(isinstance(section, Mapping) for section in sections)):
        raise InputError(f"{name}: damaged; the file as it was released is wanted")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]
