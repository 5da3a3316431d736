"""The setting of an evaluation and the names of its files. Workers read the setting from the run directory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa

from pe_beam.contracts.source import Source
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.recipe.sources import path_on_disk, source_at

FOLDER = "private/evaluation"
WORK = f"{FOLDER}/work"
MEASURED = "measured"
"""Folder of the populations' figures, below `WORK`. Only this folder survives an interrupted evaluation."""
RESULT, PAGE = f"{FOLDER}/evaluation.json", f"{FOLDER}/evaluation.html"
OUTCOME = f"{WORK}/outcome.json"
"""The result of the current evaluation. It has its own file, so that no older result is mistaken for it."""
HELD_OUT, TRAINING, VOTED = "held-out", "training", "voted"
"""Groups of records: held-out, embeddings of training records, and the training records themselves."""
CEILING = TRAINING
"""Name under which training records are measured like a population."""

_SETTING = f"{WORK}/setting.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The setting of an evaluation: what it compares, and how.

    Attributes:
      against: path of the real data; None for the recipe's data.holdout.
      populations: numbers of the measured populations, ascending; always including 0 and the last.
      no_training: the reason why training records are left out; "" if they are used.
      options: options of the modality's metrics, by name.
      metric_rows: largest number of rows of a kind that those metrics get.
    """

    against: str | None
    populations: tuple[int, ...]
    no_training: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    metric_rows: int = 10_000

    def save(self, run: Run) -> None:
        """Commits the setting for the workers of this evaluation."""
        run.store.commit(_SETTING, json.dumps(asdict(self)).encode(), replace=True)

    @classmethod
    def load(cls, run: Run) -> Setting:
        """Returns the setting that the driver saved."""
        plain = json.loads(run.store.read(_SETTING))
        return cls(**plain | {"populations": tuple(plain["populations"])})

    @property
    def last(self) -> int:
        """Returns the number of the population that samples.parquet holds."""
        return self.populations[-1]

    def held_out(self, run: Run, records: pa.Table | None = None) -> Source:
        """Returns the source of the held-out records, or of `against`. Raises InputError if the recipe has none.

        Args:
          run: the complete run.
          records: the records of one piece, if the source has a `transform`.
        """
        key, path = self._place(run)
        part = None if self.against is not None else "test"
        return source_at(run.recipe, path, part=part, key=key, records=records)

    def on_disk(self, run: Run) -> dict[str, str | None]:
        """Returns the key and the path of the held-out records; None: they are on no disk."""
        key, path = self._place(run)
        return {key: path_on_disk(run.recipe, path)}

    def _place(self, run: Run) -> tuple[str, str]:
        """Returns the key and the path of the held-out records. Raises InputError if the recipe has none."""
        holdout = run.recipe.data.holdout
        if self.against is not None:
            return "--against", self.against
        if holdout is None:
            raise InputError(
                "data.holdout: not in the recipe; name real data with --against PATH, in Python against=PATH"
            )
        return "data.holdout", holdout if isinstance(holdout, str) else run.recipe.data.path


def population(iteration: int) -> str:
    """Returns a population's name."""
    return f"population-{iteration:04d}"


def save_arrays(run: Run, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Commits arrays under `work/` of the evaluation. A repeated call replaces the file by an equal one."""
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes keywords for its own options
    run.store.commit(f"{WORK}/{name}.npz", sink.getvalue(), replace=True)


def load_arrays(run: Run, name: str) -> dict[str, np.ndarray]:
    """Returns the arrays that `save_arrays` saved."""
    with np.load(io.BytesIO(run.store.read(f"{WORK}/{name}.npz")), allow_pickle=False) as found:
        return dict(found)
