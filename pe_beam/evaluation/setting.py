"""What an evaluation compares, and where its files lie. Plain data that workers read from the run directory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from pe_beam.contracts.source import Source
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.recipe.sources import source_at

FOLDER = "private/evaluation"
WORK = f"{FOLDER}/work"
MEASURED = "measured"
"""Figures of populations, below `WORK`: the one thing there that an interrupted evaluation leaves to the next."""
RESULT, PAGE = f"{FOLDER}/evaluation.json", f"{FOLDER}/evaluation.html"
OUTCOME = f"{WORK}/outcome.json"
"""The result of the evaluation that is running, so that an older one is never taken for it."""
HELD_OUT, TRAINING, VOTED = "held-out", "training", "voted"
"""Groups of records: held-out, embeddings of training records, and the training records themselves."""
CEILING = TRAINING
"""Name of the population that training records stand for."""

_SETTING = f"{WORK}/setting.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is compared.

    Attributes:
      against: path of the real data; None: the recipe's data.holdout.
      populations: numbers of the populations that are measured, ascending; 0 and the last are always among them.
      no_training: why training records are left out; "" where they are used.
      options: what the modality's metrics are told, by name.
      metric_rows: rows of a table that they see at most.
    """

    against: str | None
    populations: tuple[int, ...]
    no_training: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    metric_rows: int = 10_000

    def save(self, run: Run) -> None:
        """For the workers of this evaluation."""
        run.store.commit(_SETTING, json.dumps(asdict(self)).encode(), replace=True)

    @classmethod
    def load(cls, run: Run) -> Setting:
        """As the driver has saved it."""
        plain = json.loads(run.store.read(_SETTING))
        return cls(**plain | {"populations": tuple(plain["populations"])})

    @property
    def last(self) -> int:
        """The population that samples.parquet holds."""
        return self.populations[-1]

    def held_out(self, run: Run) -> Source:
        """The real records that had no part in the run; InputError if none are named."""
        holdout = run.recipe.data.holdout
        if self.against is not None:
            return source_at(run.recipe, self.against, part=None, key="--against")
        if holdout is None:
            raise InputError("data.holdout: not in the recipe; name real data with --against PATH")
        path = holdout if isinstance(holdout, str) else run.recipe.data.path
        return source_at(run.recipe, path, part="test", key="data.holdout")


def population(iteration: int) -> str:
    """A population's name."""
    return f"population-{iteration:04d}"


def save_arrays(run: Run, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Commits arrays under `work/` of the evaluation; a repeat replaces them by the same."""
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes keywords for its own options
    run.store.commit(f"{WORK}/{name}.npz", sink.getvalue(), replace=True)


def load_arrays(run: Run, name: str) -> dict[str, np.ndarray]:
    """What `save_arrays` has saved."""
    with np.load(io.BytesIO(run.store.read(f"{WORK}/{name}.npz")), allow_pickle=False) as found:
        return dict(found)
