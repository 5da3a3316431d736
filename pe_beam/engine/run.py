"""One run as a driver or a worker sees it: its directory, its recipe, its identity, and its parts, one a process."""

from __future__ import annotations

import functools
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
from pe_beam.recipe import identity, parts
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan, make_plan
from pe_beam.storage import open_store


@dataclass(frozen=True)
class Run:
    """What all steps of a run share.

    Attributes:
      root: URI of the run directory, as its store spells it.
      recipe: resolved.
    """

    root: str
    recipe: Recipe

    @cached_property
    def store(self) -> Store:
        """Its files."""
        return open_store(self.root)

    @cached_property
    def layout(self) -> Layout:
        """Their names."""
        return Layout(self.recipe.private)

    @cached_property
    def run_id(self) -> str:
        """The hash of all that shapes the release."""
        return identity.run_id(self.recipe)

    @cached_property
    def embedding_id(self) -> str:
        """The hash of what shapes private embeddings."""
        return identity.embedding_id(self.recipe)

    @cached_property
    def plan(self) -> Plan:
        """Its noise, fixed before any data is read. For the driver: workers read sigma off the ledger."""
        return make_plan(self.recipe)

    @cached_property
    def modality(self) -> Modality:
        """The kind of record, with the columns that data.schema declares."""
        return parts.find_modality(self.recipe)

    @cached_property
    def generator(self) -> Generator:
        """The generator, one a process."""
        return parts.new_generator(self.recipe, Folder(self.store, PUBLIC_SERVICES))

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, one a process."""
        return parts.new_embedder(self.recipe, Folder(self.store, PRIVATE_SERVICES))


def stored_recipe(store: Store) -> Recipe:
    """The recipe of a run directory; InputError if its recipe.yaml is damaged."""
    try:
        return parse_recipe(yaml.safe_load(store.read("recipe.yaml")))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{store.at('recipe.yaml')}: damaged (not YAML); put the run's own back") from None


@functools.lru_cache(maxsize=4)
def _opened(root: str, digest: str) -> Run:
    return Run(root, stored_recipe(open_store(root)))


def open_run(root: str | Path) -> Run:
    """The run in a directory, as its recipe.yaml says; one object a process while that file is the same."""
    store = open_store(root)
    recipe = store.find_committed("recipe.yaml")  # each call of a DoFn comes here
    if recipe is None:
        raise InputError(f"{root}: not a run directory (it has no recipe.yaml)")
    return _opened(store.uri, hashlib.sha256(recipe).hexdigest())
