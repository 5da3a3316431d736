"""DoFns that were built by another version of the package than the worker's."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.internal import pickler

from pe_beam.engine.graphs.base import RunFn
from pe_beam.errors import InputError
from pe_beam.transforms import plain


class Doubled(plain.PlainFn):
    def __init__(self, by: int) -> None:
        self.by = by

    def process(self, element: int) -> Iterator[int]:
        yield self.by * element


@pytest.mark.parametrize("fn", [Doubled(2), RunFn("memory://a-run")])
def test_a_dofn_is_sent_as_it_is(fn: plain.PlainFn) -> None:
    assert pickler.loads(pickler.dumps(fn)).__dict__ == fn.__dict__


def test_a_worker_of_another_version_refuses_its_first_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Beam's own worker: the version that it is asked for is the driver's first, and then another one."""
    said = "^the workers' installation: it has pe_beam 0.0.9, and the driver pe_beam 0.1.1; the same version is wanted"
    with pytest.raises(InputError, match=said), beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | beam.Create([1]) | beam.ParDo(Doubled(2))
        monkeypatch.setattr(plain, "_version", iter(["0.1.1", *["0.0.9"] * 99]).__next__)


def test_a_checkout_that_is_not_installed_has_no_version_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickler.dumps(Doubled(2))
    monkeypatch.setattr(plain, "_version", lambda: "0+unknown")
    assert pickler.loads(sent).by == 2
