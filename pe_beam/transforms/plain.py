"""A DoFn that Beam takes in quickly.

All that builds graphs here imports this module, so it also mends Beam for notebooks.
"""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import apache_beam as beam

from pe_beam.errors import InputError
from pe_beam.transforms.notebooks import mend

mend()

_CALLED = ("setup", "start_bundle", "process", "finish_bundle", "teardown")
_BY, _UNKNOWN = "_built_by", "0+unknown"  # a checkout that is not installed has no version


class PlainFn(beam.DoFn):
    """A DoFn without state and timers.

    Beam looks for state and timers in the signature of each method that `dir` names: some thirty, for each DoFn eight
    times from graph to worker. That was a third of the time of a small run. Here `dir` names what Beam calls and a
    subclass defines.

    >>> class Double(PlainFn):
    ...     def process(self, element):
    ...         yield 2 * element
    >>> dir(Double())
    ['process']
    """

    def __dir__(self) -> list[str]:
        return [name for name in _CALLED if getattr(type(self), name) is not getattr(beam.DoFn, name)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, _BY: _version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the state; on a worker with another version of the package, `process` then refuses its first element.

        Beam refuses another Python or Beam there, and knows nothing of packages. A worker image that was forgotten
        would vote, draw noise or select as an earlier version did. An error here instead would leave a job on Flink
        waiting for a worker.
        """
        self.__dict__.update({name: value for name, value in state.items() if name != _BY})
        built = state.get(_BY, _UNKNOWN)
        if built != _version() and _UNKNOWN not in (built, _version()):
            self.__dict__.update(_built=built, process=self._refuse)

    def _refuse(self, element: Any, *_: Any, **__: Any) -> NoReturn:
        raise InputError(
            f"the workers' installation: it has pe_beam {_version()}, and the driver pe_beam {vars(self)['_built']}; "
            "the same version is wanted where workers run"
        )


@functools.cache
def _version() -> str:
    try:
        return version("pe_beam")
    except PackageNotFoundError:
        return _UNKNOWN
