"""The release that a run starts from (`evolution.start`): where it lies, which it is, and what it has spent.

Nothing here reads more than a few small public files. `engine.start` reads and checks the candidates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pe_beam import registry
from pe_beam.errors import InputError, PeBeamError, RecipeError, StorageError
from pe_beam.keyed import encode_fields
from pe_beam.privacy.statement import compose_runs
from pe_beam.recipe.ancestry import as_run
from pe_beam.recipe.files import RecipeFolder, placed
from pe_beam.recipe.identity import identity
from pe_beam.recipe.makers import that_vary_any
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.start import Ancestor, Found, Start
from pe_beam.releases.privacy import Privacy
from pe_beam.releases.reading import FORMAT_VERSION, Release, open_release

KEY = "evolution.start.release"
MECHANISM = "Gaussian, exactly rounded to the grid of votes"
"""What privacy.json calls the mechanism whose costs add up as Gaussians. No other is known here."""
_WITHHELD = "(withheld)"
_ANCESTORS = TypeAdapter(list[Ancestor])


def resolve_start(recipe: Recipe, folder: RecipeFolder) -> Recipe:
    """Finds the release of `evolution.start`, and writes into the recipe which it is and what it has spent.

    Args:
      recipe: resolved in all other parts.
      folder: of the recipe; a relative path of a release starts there.

    Returns:
      The recipe with an absolute place and `found`. What was found before is left as it is: `engine.start` compares.

    Raises:
      RecipeError: there is no release, a file of it is damaged, or this recipe cannot start from it.
    """
    start = recipe.evolution.start
    if start is None or start.found is not None:
        return recipe
    there = start.model_copy(update={"release": placed(start.release, folder)})
    found = find_start(_with(recipe, there))
    return _with(recipe, there.model_copy(update={"found": found}))


def _with(recipe: Recipe, start: Start) -> Recipe:
    return recipe.model_copy(update={"evolution": recipe.evolution.model_copy(update={"start": start})})


@contextlib.contextmanager
def named(start: Start) -> Iterator[None]:
    """Names the recipe's key in what is said of its release."""
    try:
        yield
    except PeBeamError as error:
        said = str(error).removeprefix("--run-dir ").removeprefix(start.release).lstrip("/: ")
        # A disk or a service that fails is no fault of the recipe; a place that is none is one.
        passing = isinstance(error, StorageError) and error.exit_status == 1
        raise (type(error) if passing else RecipeError)(f"{KEY} {start.release}: {said}") from None


def find_start(recipe: Recipe) -> Found:
    """Returns what the release of a recipe's start says of itself. Raises RecipeError as `resolve_start`."""
    start = recipe.evolution.start
    assert start is not None
    with named(start):
        release = open_release(start.release)
        digest = release_digest(release)
        promise, ancestors = _cost(release, start, digest)
        kept = _same_generators(recipe, release)
    if not kept:
        _demand_any_can_be_varied(recipe)
    return Found(digest=digest, promise=promise, states="kept" if kept else "dropped", ancestors=ancestors)


def release_digest(release: Release) -> str:
    """Returns the SHA-256 (hex) that says which release it is, of its newest iteration.

    It is over the bytes of that iteration's manifest (which has the digest of each file of the population), of
    privacy.json and of recipe.json, in this order; a file that is not there counts as empty.

    Raises:
      InputError: the release has no population, or its manifest is damaged or of another format.
    """
    release.manifest(newest := release.iteration)
    names = (f"iteration={newest:04d}/manifest.json", "privacy.json", "recipe.json")
    read = [release.folder.read(name) if release.folder.exists(name) else b"" for name in names]
    return hashlib.sha256(encode_fields("pe_beam/start/1", *read)).hexdigest()


def _cost(release: Release, start: Start, digest: str) -> tuple[Any, list[Ancestor]]:
    """Returns whether the cost of a release is stated, and what it and those before it have spent."""
    if start.public:
        return "public", []
    if not release.private:
        return "none", []
    privacy = release.privacy
    if privacy is None or privacy["mechanism"] != MECHANISM:
        return "unknown", []
    if privacy["version"] != FORMAT_VERSION:
        raise InputError(f"privacy.json: format {FORMAT_VERSION} is wanted; a newer pe_beam may read it")
    try:
        before = _ANCESTORS.validate_python(privacy.get("start", {"ancestors": []})["ancestors"])
        own = _own(privacy, digest)
    except (ValidationError, KeyError, TypeError, AttributeError):
        raise InputError("privacy.json: damaged; the file as it was released is wanted") from None
    _demand_explained(privacy, own, before, release.iteration)
    return "stated", _line(_over_windows(own, release), before, disjoint=start.disjoint)


def _demand_explained(privacy: Privacy, own: Ancestor, before: Sequence[Ancestor], iterations: int) -> None:
    """Checks that the stated epsilon follows from the stated noise, of as many histograms as there are.

    Raises:
      InputError: it does not.
    """
    kind = (own.unit, own.adjacency)
    added = [each for each in before if each.data == 0 and (each.unit, each.adjacency) == kind]
    epsilon, delta = compose_runs([as_run(each) for each in (own, *added)])
    counted = {len(own.noise_multiplier), privacy["iterations"], iterations} == {iterations}
    # Numeric accounting differs a little between machines.
    if not counted or delta != privacy["delta"] or epsilon < privacy["spent_epsilon"] * (1 - 1e-3):
        raise InputError(
            "privacy.json: damaged, for its epsilon does not follow from its noise; the file as it was released is "
            "wanted"
        )


def _own(privacy: Privacy, digest: str) -> Ancestor:
    """Returns what a release has spent by itself, without what it started from."""
    by_itself: Mapping[str, Any] = privacy.get("start", {}).get("own", privacy)
    rate = privacy["sampling_rate"]
    return Ancestor.model_validate(
        {
            "digest": digest,
            "unit": privacy["unit"],
            "adjacency": privacy["adjacency"],
            "delta": by_itself["delta"],
            "noise_multiplier": privacy["noise_multiplier"],
            "label_shares_noise_multiplier": privacy["label_shares_noise_multiplier"],
            "sampling_rate": 1 if isinstance(rate, list) else rate,  # as if all had voted, which costs no less
        }
    )


def _over_windows(own: Ancestor, release: Release) -> Ancestor:
    """Returns the cost of a window of a stream to a client, or to a record where windows slide: both may be in several.

    The release follows from all windows before it, so each of those may be one of them.
    """
    stream = (release.recipe or {}).get("stream") or {}
    windows = int(stream.get("client_windows" if own.unit == "client" else "sliding", 1))
    if windows == 1:
        return own
    return _as_shared(own.model_copy(update={"sets": windows}))


def _line(own: Ancestor, before: list[Ancestor], *, disjoint: bool) -> list[Ancestor]:
    """Returns what a new run's line has spent: the release that it starts from, and what that one has started from.

    If the new run's data may overlap, all of it is summed up, whatever the earlier runs said of each other: their words
    were not about these data. If not, the earlier data are sets of their own. Sets whose releases spent the same are
    counted in one entry, so that a long line of windows stays short.
    """
    if not disjoint:
        return [own, *map(_as_shared, before)]
    moved = [own, *before]
    moved = [each.model_copy(update={"data": each.data + 1}) for each in moved]
    first, second = ([each for each in moved if each.data == data] for data in (1, 2))
    if len(first) == len(second) == 1 and _terms(first[0]) == _terms(second[0]):
        folded = first[0].model_copy(update={"sets": 1 + second[0].sets})
        return [folded, *(each.model_copy(update={"data": each.data - 1}) for each in moved if each.data > 2)]
    return moved


def _terms(each: Ancestor) -> dict[str, Any]:
    return each.model_dump(exclude={"digest", "data", "sets"})


def _as_shared(each: Ancestor) -> Ancestor:
    """Returns an entry as one over data that may be the new run's: all of its sets are summed up."""
    if each.data == 0 and each.sets == 1:
        return each
    bought = each.label_shares_noise_multiplier
    spent = [*each.noise_multiplier, *([] if bought is None else [bought])] * each.sets
    told = {"noise_multiplier": spent, "label_shares_noise_multiplier": None, "sampling_rate": 1.0}
    return each.model_copy(update={**told, "data": 0, "sets": 1})


def _same_generators(recipe: Recipe, release: Release) -> bool:
    """Returns whether the release's generator is the recipe's, with the same options.

    What recipe.json withholds is looked up in the recipe.yaml of the run directory, if the holder's is there.
    """
    own = _generators(json.loads(json.dumps(identity(recipe))))
    told = _generators(release.recipe or {})
    if _WITHHELD in json.dumps(told):
        told = _generators(_full_recipe(release))
    return told is not None and own == told


def _full_recipe(release: Release) -> Mapping[str, Any]:
    """Returns the recipe.yaml beside a release folder as plain data, as `identity` does; empty if there is none."""
    store, prefix = release.folder.store, release.folder.prefix
    if not prefix or not store.exists("recipe.yaml"):
        return {}
    try:
        resolved = Recipe.model_validate(yaml.safe_load(store.read("recipe.yaml")))
        found: dict[str, Any] = json.loads(json.dumps(identity(resolved)))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, RecipeError):
        return {}
    return found


def _generators(plain: Mapping[str, Any]) -> Any:
    """Returns the generator of a recipe, or the name of each of several with its generator; None if it says neither."""
    several = plain.get("generators")
    if isinstance(several, list):
        return {maker["name"]: maker["generator"] for maker in several}
    return plain.get("generator")


def _demand_any_can_be_varied(recipe: Recipe) -> None:
    """Raises RecipeError if the recipe's generator varies only what it remembers of its own candidates."""
    if recipe.generators is not None:
        raise RecipeError(
            f"{KEY}: with several generators a run starts only from a release of the same ones, by name and options; "
            "one generator that varies any candidate is wanted in their place"
        )
    [(key, part)] = recipe.generator_parts
    if not registry.find("generators", part.name, key=f"{key}.name").varies_any:
        raise RecipeError(
            f"{key}.name: {part.name!r} varies only candidates of its own, by what it remembers of them, and the "
            "release of evolution.start is not known to be made by it with the same options (its recipe.json, or the "
            f"recipe.yaml beside it, would say so); allowed: the same, or one that varies any: "
            f"{that_vary_any(recipe.modality)}"
        )
