"""A runner: where graphs run, and what has to be checked before one does."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pe_beam.contracts.store import Store


@dataclass(frozen=True)
class Graph:
    """One graph to run.

    Attributes:
      label: a literal name.
      build: puts it on a root, which is a Beam pipeline, or a PCollection of one element after which it is to start;
        returns a PCollection of names.
      store: the run directory that the driver and all workers see.
    """

    label: str
    build: Callable[[Any], Any]
    store: Store


class Runner(abc.ABC):
    """Runs graphs with the user's Beam flags.

    It is registered under the entry point group `pe_beam.runners`, by the name that `--runner` says, in lower case. A
    Beam runner that is not registered runs graphs as Beam does.
    """

    parallelism_flag: ClassVar[str | None] = None
    """The flag that says how many workers there are; None: it has none."""

    @classmethod
    def parallelism(cls, workers: int) -> list[str]:
        """`execution.parallelism` as flags. The first of a name counts less than what the user has given."""
        return [] if cls.parallelism_flag is None else [f"{cls.parallelism_flag}={workers}"]

    @abc.abstractmethod
    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """Runs one graph to its end.

        Args:
          graph: what to run.
          args: all Beam flags.

        Raises:
          PeBeamError: the target cannot run it, or a known cause of failure.
          Exception: whatever else Beam's runner says.
        """
