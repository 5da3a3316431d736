"""One run as a driver or a worker sees it: directory, recipe, plan, generator and embedder."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.generator import Generator
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import InputError, SecretError
from pe_beam.privacy import ledger, noise
from pe_beam.recipe import parts
from pe_beam.recipe.identity import embedding_id, run_id
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan, make_plan
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.storage import open_store

PUBLIC_SERVICES = "work/services"
PRIVATE_SERVICES = "private/services"


def fingerprint_of(digests: Iterable[str]) -> str:
    """SHA-256 (hex) over the digests (hex) of the frozen shards, in the order of their pieces. Private."""
    joined = b"".join(bytes.fromhex(digest) for digest in digests)
    return hashlib.sha256(b"pe_beam/data/1" + joined).hexdigest()


@dataclass(frozen=True)
class Run:
    """What all stages of a run share. Names are relative to the run directory.

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
    def plan(self) -> Plan:
        """Its noise, fixed before any data is read. For the driver: workers read sigma off the ledger."""
        return make_plan(self.recipe)

    @cached_property
    def populations(self) -> list[int]:
        """Sizes of populations 0 to T."""
        return self.recipe.evolution.populations()

    def ledger_line(self, iteration: int) -> ledger.LedgerLine:
        """The line that pays for an iteration: without it nothing is noised (rule 6).

        Raises:
          InputError: no line.
        """
        lines, _ = ledger.parse_ledger(self.store.read(ledger.LEDGER))
        for line in lines:
            if line.iteration == iteration:
                return line
        raise InputError(f"ledger.jsonl: no line for iteration {iteration}; a pipeline runs after its line")

    def sigma(self, iteration: int) -> float:
        """The sigma that the ledger says an iteration spends, in votes; raises InputError without a line."""
        return self.ledger_line(iteration).sigma

    def line_hmac(self, secret: bytes, *, iteration: int, sigma: float, sensitivity: float) -> str:
        """What an iteration's line carries if it pays for this recipe on these data under this secret (rule 15)."""
        return ledger.data_hmac(
            secret,
            run_id=self.run_id,
            fingerprint=self.fingerprint(),
            iteration=iteration,
            sigma=sigma,
            sensitivity=sensitivity,
            grid_bits=noise.grid_bits_for(sigma, self.recipe.privacy.unit),
        )

    def refuse_unless_paid(self, line: ledger.LedgerLine, secret: bytes) -> None:
        """Raises SecretError where a line pays for another recipe, other data or another secret than are here."""
        mine = self.line_hmac(secret, iteration=line.iteration, sigma=line.sigma, sensitivity=line.sensitivity)
        if not hmac.compare_digest(mine, line.data_hmac):
            raise SecretError(
                f"ledger.jsonl: the line of iteration {line.iteration} pays for another recipe, another secret or "
                "other data; put back recipe.yaml and private/ as they were, or start a new run directory"
            )

    def grid_bits(self, iteration: int) -> int:
        """b of an iteration: its counts are whole multiples of 2^-b votes."""
        return noise.grid_bits_for(self.sigma(iteration), self.recipe.privacy.unit)

    @cached_property
    def run_id(self) -> str:
        """The hash of all that shapes the release."""
        return run_id(self.recipe)

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

    @cached_property
    def degrees(self) -> list[float]:
        """Degree of variation in iterations 1 to T."""
        evolution = self.recipe.evolution
        return resolve_schedule(evolution.degree, evolution.iterations, name="evolution.degree")

    @property
    def release(self) -> str:
        """The folder that may leave the building."""
        return "release" if self.recipe.private else "release-NOT-PRIVATE"

    def public(self, iteration: int, name: str) -> str:
        """A released file of an iteration."""
        return f"{self.release}/iteration={iteration:04d}/{name}"

    def work(self, iteration: int, name: str) -> str:
        """A working file of an iteration, never shared."""
        return f"work/iteration={iteration:04d}/{name}"

    def manifest(self, iteration: int) -> dict[str, Any] | None:
        """An iteration's manifest; None: the iteration does not exist yet."""
        name = self.public(iteration, "manifest.json")
        return json.loads(self.store.read(name)) if self.store.exists(name) else None

    def manifest_of(self, iteration: int) -> dict[str, Any]:
        """The manifest of an iteration that must exist; InputError if it does not."""
        manifest = self.manifest(iteration)
        if manifest is None:
            raise InputError(f"iteration {iteration} does not exist yet; iterations are made in order")
        return manifest

    def candidate_count(self, iteration: int) -> int:
        """Rows of a population that must exist, all labels together; InputError if it does not."""
        return sum(self.manifest_of(iteration)["candidates"].values())

    def index(self) -> dict[str, Any] | None:
        """The frozen embeddings: fingerprint, dimension, shards. None: not embedded yet.

        Raises:
          InputError: it is damaged, or its shards' digests do not give its fingerprint.
        """
        name = "private/embeddings/index.json"
        if not self.store.exists(name):
            return None
        try:
            found: dict[str, Any] = json.loads(self.store.read(name))
            whole = found["fingerprint"] == fingerprint_of(shard["sha256"] for shard in found["shards"])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{name}: damaged; restore it, or start a new run directory") from None
        if not whole:
            raise InputError(f"{name}: names other shards than were frozen; restore it, or start a new run directory")
        return found

    def fingerprint(self) -> str:
        """Of the frozen embeddings (private); InputError if there are none yet."""
        index = self.index()
        if index is None:
            raise InputError("private/embeddings: not frozen yet; the embed pipeline comes first")
        return str(index["fingerprint"])

    @cached_property
    def embedding_id(self) -> str:
        """The hash of what shapes private embeddings."""
        return embedding_id(self.recipe)

    @cached_property
    def label_codes(self) -> dict[str | None, int]:
        """Label -> its position in the declared list."""
        return {label: code for code, label in enumerate(self.recipe.label_list)}

    def codes(self, labels: list[str | None]) -> np.ndarray:
        """Labels of candidates -> int32 positions."""
        return np.array([self.label_codes[label] for label in labels], dtype=np.int32)


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
    if not store.exists("recipe.yaml"):
        raise InputError(f"{root}: not a run directory (it has no recipe.yaml)")
    return _opened(store.uri, hashlib.sha256(store.read("recipe.yaml")).hexdigest())
