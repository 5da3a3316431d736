"""Runs one graph on the runner that the Beam flags name, and explains a failure in one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from apache_beam.runners.runner import create_runner
from apache_beam.transforms.resources import parse_resource_hints

from pe_beam import console, registry
from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, PeBeamError, RecipeError, StageError
from pe_beam.runners.direct import PlainRunner
from pe_beam.runners.leaving import LeavingRunner
from pe_beam.runners.options import Options, demand_valid, runner_key
from pe_beam.runners.staging import unstaged
from pe_beam.runners.traces import keep_trace, own_error


class Job:
    """Runs graphs, one per call, with the user's Beam flags, and explains a failure in one line.

    Attributes:
      args: Beam's flags: those of the user and those that the recipe adds.
    """

    def __init__(
        self,
        store: Store,
        args: Sequence[str],
        *,
        runner: str = "FnApiRunner",
        parallelism: int | None = None,
        hints: Mapping[str, Mapping[str, str]] | None = None,
        started: Callable[[str, str, str | None], None] | None = None,
        run_id: str = "",
        client_ids: bool = False,
        leaves: bool = False,
        disks: Mapping[str, str] | None = None,
    ) -> None:
        """Checks and completes the flags.

        Args:
          store: the run directory, which the driver and all workers see.
          args: Beam's flags.
          runner: the runner if the flags name none.
          parallelism: number of workers if the flags name none.
          hints: stage -> Beam's resource hints.
          started: called with label, runner and `Runner.shown_as` of each graph before it starts.
          run_id: the run's id; "" for graphs of no run.
          client_ids: True if graphs of the run shuffle client ids.
          leaves: whether graphs are handed over and not waited for.
          disks: recipe key -> the path on a disk that workers read.

        Raises:
          InputError: Beam does not accept a flag or a hint.
          PeBeamError: the runner cannot work with the flags, or its service cannot be used.
        """
        self._store, self._started, self._run_id = store, started, run_id
        self.args = list(args)
        if not any(arg == "--runner" or arg.startswith("--runner=") for arg in self.args):
            self.args.append(f"--runner={runner}")
        options = _parsed(self.args)
        self._name = str(options.get_all_options()["runner"])
        self._runner = find_runner(self._name)
        demand_valid(options, on_dataflow=runner_key(self._name) == "dataflowrunner")
        if self._runner is PlainRunner:
            _demand_beams(self._name)
        self.args += _parallelism(parallelism, self._runner, self.args)
        if not self._runner.sees_disks:
            _refuse_disks(disks or {}, self._name)
        if leaves:
            self._runner = LeavingRunner
        _check_hints(hints or {})
        with _quiet():
            self._runner().check(store, self.args, client_ids=client_ids)

    @property
    def on_this_machine(self) -> bool:
        """Whether all workers run on the driver's machine."""
        return self._runner.on_this_machine

    def __call__(
        self,
        label: str,
        build: Callable[[Any], Any],
        *,
        is_done: Callable[[], bool] | None = None,
        joins: bool = True,
    ) -> None:
        """Runs the graph that `build` makes to its end; see `Graph`. Raises PeBeamError, and LockedError first."""
        self._store.demand_lock()
        graph, runner = Graph(label, build, self._store, self._run_id, is_done, joins), self._runner()
        try:
            with _quiet(), unstaged():
                if self._started is not None:
                    self._started(label, self._name, runner.shown_as(graph, self.args))
                runner.run(graph, self.args)
        except Exception as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from None
            raise _explained(error, label, self._store) from None


def _is_interrupt(error: BaseException | None) -> bool:
    """Tells whether Ctrl-C, or a notebook's stop, is behind an error: where Beam runs in this thread, it wraps that."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def find_runner(name: str) -> type[Runner]:
    """Returns the registered runner for a Beam runner's name, or PlainRunner if none is registered."""
    keys = [key for key in (name.lower(), runner_key(name)) if key in registry.names("runners")]
    found: type[Runner] = registry.find("runners", keys[0], key="--runner") if keys else PlainRunner
    return found


def _demand_beams(name: str) -> None:
    """Refuses a runner that Beam cannot make. It would say so in the middle of the first job."""
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError):
        known = ", ".join(_RUNNERS)
        raise InputError(
            f"--runner: {name!r} cannot be made by Beam here; allowed: {known}, others of Beam, or package.module.Class"
        ) from None


def _refuse_disks(paths: Mapping[str, str], runner: str) -> None:
    for key, path in paths.items():
        raise InputError(
            f"{key}: {path} is on a disk, and workers of {runner} do not see this machine's; a bucket is wanted, such "
            "as gs://BUCKET/FOLDER, or file:///FOLDER where each worker has its own copy (docs/sources.md)"
        )


_RUNNERS = ("FnApiRunner", "PrismRunner", "FlinkRunner", "DataflowRunner")


def _parallelism(wanted: int | None, runner: type[Runner], args: Sequence[str]) -> list[str]:
    """Returns execution.parallelism as flags of the runner. Flags of the user take precedence."""
    given = {arg.split("=")[0] for arg in args}
    if wanted is None or runner.parallelism_flag in given:
        return []
    return [flag for flag in runner.parallelism(wanted) if flag.split("=")[0] not in given]


def _check_hints(stages: Mapping[str, Mapping[str, str]]) -> None:
    """Refuses wrong hints. Beam would refuse them when it builds a graph, and the budget is already spent then."""
    for stage, hints in stages.items():
        for name, value in hints.items():
            try:
                parse_resource_hints({name: value})
            except (ValueError, TypeError):
                raise RecipeError(
                    f"execution.stages.{stage}.{name}: {value!r} is not a resource hint as Beam reads it"
                ) from None


def _parsed(args: list[str]) -> Any:
    """Returns Beam's options. It refuses wrong flags in one line; Beam's parser would print a page and exit."""
    said, known = io.StringIO(), [*_OF_GRAPHS]
    try:
        with contextlib.redirect_stderr(said):
            options = Options(args)
            options.get_all_options(add_extra_args_fn=lambda parser: known.extend(parser._option_string_actions))
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise InputError(f"Beam flags (after --): {reason}") from None
    for flag in [arg.split("=")[0] for arg in args if arg.startswith("--")]:
        near = [] if flag in known else difflib.get_close_matches(flag, known, 1, cutoff=0.9)
        if near:  # Beam leaves out what it does not know: another runner, or a shuffle that is not encrypted
            raise InputError(f"Beam flags (after --): {flag} is not known; did you mean {near[0]}?")
    return options


_OF_GRAPHS = ("--client_shuffle_key",)  # known to Beam once a graph is built that has it


class _Quiet:
    """The jobs that run in this process, and the level of Beam's log before the first of them."""

    lock = threading.Lock()
    jobs = 0
    before = logging.NOTSET


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Beam's log while a job runs, because Beam logs the traces of workers, which may have values (rule 7).

    `_explained` reports the failure once, without values. Other logs of the host process stay unchanged unless a
    command owns the process (`console.hushed`). The last of several jobs at once gives Beam its log back.
    """
    beams = logging.getLogger("apache_beam")
    with _Quiet.lock:
        if not _Quiet.jobs:
            _Quiet.before = beams.level
            beams.setLevel(logging.CRITICAL + 1)
        _Quiet.jobs += 1
    try:
        with console.hushed():
            yield
    finally:
        with _Quiet.lock:
            _Quiet.jobs -= 1
            if not _Quiet.jobs:
                beams.setLevel(_Quiet.before)


def _explained(error: Exception, label: str, store: Store) -> PeBeamError:
    """Finds the package's own error in the text of a runner's error. Any other text goes to `private/errors`."""
    if isinstance(error, PeBeamError):
        return type(error)(str(error).partition(" [while running ")[0])
    found = own_error(str(error))
    if found is not None:
        return found
    name = keep_trace(store, label, "".join(traceback.format_exception(error)))
    return StageError(f"{label}: the Beam job failed ({type(error).__name__}); what its runner said is in {name}")
