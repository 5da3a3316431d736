"""The contract of a runner, which runs Beam graphs."""

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
      build: adds the graph to a root and returns a PCollection of names. The root is a Beam pipeline, or a PCollection
        of one element after which the graph starts.
      store: the run directory that the driver and all workers see.
      run_id: the run's id; "" for a graph of no run. Runs of one recipe in different directories share it.
      is_done: returns True if the work of the graph is committed; None if nothing tells. A runner whose jobs outlive
        the driver asks it before it submits a job.
      joins: whether this driver may wait for a job of the same graph that an earlier driver has left; False if the
        graph reads what this driver has just written.
    """

    label: str
    build: Callable[[Any], Any]
    store: Store
    run_id: str = ""
    is_done: Callable[[], bool] | None = None
    joins: bool = True


class Runner(abc.ABC):
    """Runs graphs with the user's Beam flags.

    It is registered under the entry point group `pe_beam.runners`, with the value of `--runner` in lower case as its
    name. A Beam runner that is not registered gets the graphs through Beam's own interface.
    """

    parallelism_flag: ClassVar[str | None] = None
    """The flag with the number of workers; None: the runner has no such flag."""

    on_this_machine: ClassVar[bool] = False
    """Whether all workers run on the driver's machine, and so see its disk."""

    sees_disks: ClassVar[bool] = True
    """Whether workers may see a disk that the driver sees; False: records on one are refused."""

    @classmethod
    def parallelism(cls, workers: int) -> list[str]:
        """Returns `execution.parallelism` as flags. A flag that the user has given takes precedence."""
        return [] if cls.parallelism_flag is None else [f"{cls.parallelism_flag}={workers}"]

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:  # noqa: B027
        """Refuses what cannot work, before a run spends budget.

        Args:
          store: the run directory.
          args: all Beam flags.
          client_ids: True if graphs of the run shuffle client ids.

        Raises:
          PeBeamError: a flag is missing or wrong, or the runner's service cannot be used.
        """

    def shown_as(self, graph: Graph, args: Sequence[str]) -> str | None:
        """Returns how a service shows the job of a graph, for `status`: its name, and where; None: no service does.

        Args:
          graph: the graph.
          args: all Beam flags.
        """
        return None

    @abc.abstractmethod
    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """Runs one graph to its end.

        Args:
          graph: what to run.
          args: all Beam flags.

        Raises:
          PeBeamError: the runner cannot run the graph, or the run failed for a known cause.
          Exception: any other error of Beam's runner.
        """
