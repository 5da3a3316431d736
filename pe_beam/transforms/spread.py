"""Spread: gives elements to all workers, as `beam.Reshuffle` does, in a third of its graph."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.portability import common_urns

from pe_beam.transforms.plain import PlainFn

T = TypeVar("T")
_KEYS = 1 << 32


class Spread(beam.PTransform):
    """`PCollection[T]` -> the same elements in new bundles, after all of them are there. It prevents fusion.

    `beam.Reshuffle` also restores timestamps and windows. Those of a batch are all the same, and the steps that keep
    them are most of its graph: 6.3 kB each time. Here they are left out where the windows are the default ones. The
    URN is that of `beam.Reshuffle`, so a runner that has its own way (Flink's rebalance) takes it here as well.

    >>> with beam.Pipeline() as pipeline:
    ...     total = pipeline | beam.Create([1, 2, 3]) | Spread() | beam.CombineGlobally(sum).without_defaults()
    ...     _ = total | beam.Map(print)
    6
    """

    def expand(self, elements: beam.PCollection) -> beam.PCollection:  # noqa: D102
        if not elements.windowing.is_default():
            return elements | beam.Reshuffle()
        kind = elements.element_type
        keyed = elements | "AddKeys" >> beam.ParDo(_AddKeysFn()).with_output_types(tuple[int, kind])  # type: ignore[valid-type]
        return keyed | beam.GroupByKey() | "DropKeys" >> beam.ParDo(_DropKeysFn()).with_output_types(kind)

    def to_runner_api_parameter(self, _: Any) -> tuple[str, None]:  # noqa: D102
        return common_urns.composites.RESHUFFLE.urn, None


class _AddKeysFn(PlainFn):
    """Gives each element another key. Keys only say where an element goes, so they may differ in a retry."""

    def start_bundle(self) -> None:
        self._next = random.randrange(_KEYS)

    def process(self, element: T) -> Iterator[tuple[int, T]]:
        self._next = (self._next + 1) % _KEYS
        yield self._next, element


class _DropKeysFn(PlainFn):
    """Passes on the elements of a key."""

    def process(self, keyed: tuple[int, Iterable[T]]) -> Iterable[T]:
        return keyed[1]
