"""One run, for a driver or a worker: its directory, recipe and identity, and its parts, one of each per process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.generator import Generator
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.store import Folder, Store
from pe_beam.engine.layout import PRIVATE_SERVICES, PUBLIC_SERVICES, Layout
from pe_beam.errors import InputError
from pe_beam.kept import kept
from pe_beam.recipe import identity, parts
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan, make_plan
from pe_beam.storage import open_store


@dataclass(frozen=True)
class Run:
    """A run: everything that its steps share.

    Attributes:
      root: URI of the run directory, as its store writes it.
      recipe: the resolved recipe.
    """

    root: str
    recipe: Recipe

    @cached_property
    def store(self) -> Store:
        """The store of its files."""
        return open_store(self.root)

    @cached_property
    def layout(self) -> Layout:
        """The names of its files."""
        return Layout(self.recipe.private)

    @cached_property
    def run_id(self) -> str:
        """The hash of everything that affects the release."""
        return identity.run_id(self.recipe)

    @cached_property
    def embedding_id(self) -> str:
        """The hash of everything that affects private embeddings."""
        return identity.embedding_id(self.recipe)

    @cached_property
    def plan(self) -> Plan:
        """Its noise, fixed before any data are read. Only the driver uses it: workers read sigma from the ledger."""
        return make_plan(self.recipe)

    @cached_property
    def modality(self) -> Modality:
        """The kind of record, with the columns that data.schema declares."""
        return parts.find_modality(self.recipe)

    @cached_property
    def generator(self) -> Generator:
        """The generator, one per process."""
        return parts.new_generator(self.recipe, Folder(self.store, PUBLIC_SERVICES))

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, one per process."""
        return parts.new_embedder(self.recipe, Folder(self.store, PRIVATE_SERVICES))


def stored_recipe(store: Store) -> Recipe:
    """Returns the recipe of a run directory. Raises InputError if its recipe.yaml is damaged."""
    try:
        return parse_recipe(yaml.safe_load(store.read("recipe.yaml")))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{store.at('recipe.yaml')}: damaged (not YAML); put the run's own back") from None


def not_a_run(store: Store) -> str:
    """Returns what is to be said of a place that has no recipe.yaml."""
    if store.exists("privacy.json"):  # somebody has got a copy of a release, or names the one in a run directory
        return (
            "a release, not the run directory that it comes from; of a release alone there are `pe-beam export DIR "
            "--as FORM`, and in Python pe_beam.open_release(DIR)"
        )
    return "not a run directory (it has no recipe.yaml)"


@kept(maxsize=4)
def _opened(root: str, digest: str) -> Run:
    return Run(root, stored_recipe(open_store(root)))


def open_run(root: str | Path) -> Run:
    """Returns the run in a directory, by its recipe.yaml: one object per process while that file does not change."""
    store = open_store(root)
    recipe = store.find_committed("recipe.yaml")  # each call of a DoFn comes here
    if recipe is None:
        raise InputError(f"{root}: {not_a_run(store)}")
    return _opened(store.uri, hashlib.sha256(recipe).hexdigest())
