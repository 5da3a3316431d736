"""Finds and builds the modality, generator and embedder that a recipe names."""

from __future__ import annotations

from pydantic import BaseModel

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.filter import Filter
from pe_beam.contracts.generator import Generator
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.service import Surroundings
from pe_beam.contracts.store import Folder
from pe_beam.errors import RecipeError
from pe_beam.recipe.filtered import Filtered, Filters
from pe_beam.recipe.identity import declared_schema
from pe_beam.recipe.measured import MOST_CELLS, MOST_COLUMNS, cells_of_halves
from pe_beam.recipe.mixed import Mixed, of_maker
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.part import Part


def find_modality(recipe: Recipe) -> Modality:
    """Returns the modality, with the columns that data.schema declares."""
    found: Modality = registry.find("modalities", recipe.modality, key="modality")
    return found if found.with_schema is None else found.with_schema(declared_schema(recipe))


def new_generator(recipe: Recipe, folder: Folder | None = None) -> Generator:
    """Builds the generator of a recipe. Several generators become one `Mixed` generator.

    Args:
      recipe: a resolved recipe.
      folder: folder that all workers share, for the service's pace and account; None if nothing is shared.

    Raises:
      RecipeError: the generator is not known, or it does not fit the recipe.
    """
    filters = new_filters(recipe, folder)
    if recipe.generators is None:
        [(key, part)] = recipe.generator_parts
        return _filtered(_new_generator(recipe, key, part, folder), filters)
    if recipe.privacy.counts_columns:
        raise RecipeError(f"{_counting(recipe)}: with several generators not supported; one generator is wanted")
    made = []
    for maker, (key, part) in zip(recipe.generators, recipe.generator_parts, strict=True):
        with of_maker(maker.name):
            made.append(_filtered(_new_generator(recipe, key, part, folder), filters))
    return Mixed(recipe.generators, made, labels=recipe.label_list, seed=recipe.seed)


def _new_generator(recipe: Recipe, key: str, part: Part, folder: Folder | None) -> Generator:
    cls = registry.find("generators", part.name, key=f"{key}.name")
    if recipe.privacy.counts_columns and not cls.takes_marginals:
        raise RecipeError(f"{_counting(recipe)}: generator {part.name!r} makes no use of them")
    if recipe.privacy.measure and len(recipe.privacy.measure.steps) > 1 and not cls.takes_pairs:
        raise RecipeError(f"privacy.measure: generator {part.name!r} makes use of one_way alone")
    if recipe.privacy.measure and recipe.privacy.measure.slices and not cls.takes_slices:
        raise RecipeError(f"privacy.measure.slices: generator {part.name!r} makes no use of them; null is wanted")
    if recipe.privacy.marginals and recipe.privacy.marginals.pairs and not cls.takes_pairs:
        raise RecipeError(f"privacy.marginals.pairs: generator {part.name!r} makes no use of them; null is wanted")
    if recipe.evolution.repeats == "modelled":
        _check_repeats(recipe, part.name, cls)
    options = cls.Options.model_validate(part.options)
    made: Generator = cls(options, labels=recipe.label_list, **_schema_for(recipe, cls))
    made.attach(_around(recipe, folder))
    return made


def _check_repeats(recipe: Recipe, name: str, cls: type[Generator]) -> None:
    """Raises RecipeError if rows of the last population cannot be changed, or nothing says how many may repeat."""
    if not cls.redraws:
        raise RecipeError(f"evolution.repeats: generator {name!r} cannot change rows a little; any is wanted")
    if recipe.filter_parts:
        raise RecipeError("evolution.repeats: rows that are changed would not pass evolution.filters; any is wanted")
    if not recipe.privacy.counts_columns:
        raise RecipeError(
            "evolution.repeats: modelled needs counts of columns (privacy.marginals or privacy.measure), which say how "
            "often rows repeat; without them any is wanted"
        )


def _around(recipe: Recipe, folder: Folder | None) -> Surroundings:
    return Surroundings(iterations=recipe.evolution.iterations, service=recipe.execution.llm, folder=folder)


def _filtered(generator: Generator, filters: Filters) -> Generator:
    return Filtered(generator, filters) if filters.named else generator


def new_filters(recipe: Recipe, folder: Folder | None = None) -> Filters:
    """Builds the filters of a recipe. Two of one name are told apart by a number."""
    named: dict[str, Filter] = {}
    payload = find_modality(recipe).payload
    for key, part in recipe.filter_parts:
        cls = registry.find("filters", part.name, key=f"{key}.name")
        made: Filter = cls(cls.Options.model_validate(part.options), payload=payload, labels=recipe.label_list)
        made.attach(_around(recipe, folder))
        same = sum(name.partition("#")[0] == part.name for name in named)
        named[f"{part.name}#{same + 1}" if same else part.name] = made
    return Filters(list(named.items()), recipe.evolution.filter_attempts)


def new_embedder(recipe: Recipe, folder: Folder | None = None) -> Embedder:
    """Builds the embedder of a recipe.

    Args:
      recipe: a resolved recipe.
      folder: folder that all workers share, for the service's pace and account; None if nothing is shared. It is
        private, because the calls about private records reveal their number.

    Raises:
      RecipeError: the embedder is not known, or it does not fit the recipe.
    """
    part = recipe.embedder
    cls = registry.find("embedders", part.name, key="embedder.name")
    made: Embedder = cls(cls.Options.model_validate(part.options), **_schema_for(recipe, cls))
    if recipe.privacy.counts_columns and not made.marginal_sizes():
        raise RecipeError(f"{_counting(recipe)}: embedder {part.name!r} has no columns to count")
    together = recipe.privacy.measure or (recipe.privacy.marginals and recipe.privacy.marginals.pairs)
    if made.counts_several and together:
        raise RecipeError(
            f"{_counting(recipe)}: embedder {part.name!r} counts several bins of a column, and so no columns together; "
            "privacy.marginals without pairs is allowed"
        )
    if recipe.privacy.marginals and made.counts_several and recipe.vote_unit != "client":
        raise RecipeError(
            f"privacy.unit: client is wanted where embedder {part.name!r} counts several bins of a column, which only "
            "the norm of a client bounds"
        )
    if recipe.privacy.marginals and recipe.privacy.marginals.pairs:
        columns = len(made.marginal_sizes())
        if not 2 <= columns <= MOST_COLUMNS:
            raise RecipeError(
                f"privacy.marginals.pairs: {columns} columns; 2 to {MOST_COLUMNS} are allowed; null counts no pairs"
            )
    _check_measure(recipe, made)
    if recipe.evolution.draws == "balanced":
        _check_balance(recipe, made)
    iterations, service = recipe.evolution.iterations, recipe.execution.embeddings
    made.attach(Surroundings(iterations=iterations, service=service, folder=folder, private=True))
    return made


def _check_balance(recipe: Recipe, embedder: Embedder) -> None:
    """Raises RecipeError if nothing is measured to balance draws by, or candidates count in several bins of it."""
    if not recipe.privacy.counts_columns:
        raise RecipeError(
            "evolution.draws: balanced needs counts of columns (privacy.marginals or privacy.measure); without them "
            "weighted is wanted"
        )
    if embedder.counts_several or embedder.marginal_parts > 1:
        raise RecipeError(
            f"evolution.draws: candidates of embedder {recipe.embedder.name!r} have several bins of a column, by which "
            "draws cannot be balanced; weighted is wanted"
        )


def _counting(recipe: Recipe) -> str:
    """Returns the key of the recipe that counts columns."""
    return "privacy.measure" if recipe.privacy.measure else "privacy.marginals"


def _check_measure(recipe: Recipe, embedder: Embedder) -> None:
    """Checks that there are as many columns as the steps of `privacy.measure` need, and those that they name."""
    told, columns = recipe.privacy.measure, embedder.marginal_sizes()
    if told is None:
        return
    if embedder.marginal_parts > 1:
        raise RecipeError(
            f"privacy.measure: embedder {recipe.embedder.name!r} counts a record in several parts; allowed: "
            "privacy.marginals"
        )
    if told.slices is not None and not embedder.marginal_slices():
        raise RecipeError("privacy.measure.slices: no column has bins of several values; null counts none")
    if told.coarse is not None and not 2 <= len(columns) <= MOST_COLUMNS:
        raise RecipeError(
            f"privacy.measure.coarse: {len(columns)} columns; 2 to {MOST_COLUMNS} are allowed; null counts no pairs"
        )
    most = None if told.halves is None else told.halves.columns
    if told.halves is not None and (cells := cells_of_halves(recipe.label_count, len(columns), most)) > MOST_CELLS:
        raise RecipeError(
            f"privacy.measure.halves: {len(columns)} columns by {recipe.label_count} labels have {cells} cells; "
            f"at most {MOST_CELLS} are allowed: fewer columns at a time (halves.columns), or null, which counts none"
        )
    unknown = sorted({name for each in (told.cliques.columns if told.cliques else []) for name in each} - set(columns))
    if unknown:
        raise RecipeError(
            f"privacy.measure.cliques.columns: {unknown[0]!r} is no column of data.schema; allowed: "
            f"{', '.join(columns)}"
        )


def _schema_for(recipe: Recipe, cls: type[Generator] | type[Embedder]) -> dict[str, BaseModel]:
    if not cls.takes_schema:
        return {}
    schema = declared_schema(recipe)
    if schema is None:
        raise RecipeError(f"modality: {recipe.modality!r} has no schema, which {cls.__name__} needs")
    return {"schema": schema}
