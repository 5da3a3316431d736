"""A stream that is killed at any write goes on: the same manifests, one ledger line each, the same releases."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest

from pe_beam.errors import PeBeamError
from pe_beam.storage.local import LocalStore
from pe_beam.streams.ledger import read_lines
from tests.streams.drifting import Life, manifest, put, released

DAYS = 2
CHANGES = {"privacy__unit": "client", "stream__client_windows": 2}


def _filled(folder):
    life = Life(folder, CHANGES)
    for day in range(DAYS):
        put(life.folder, day, "a", [(day, "ann"), (day + 4, "ben")])
        put(life.folder, day, "b", [(day + 9, "cy")])
    return life


class _KillError(PeBeamError):
    """Stands for kill -9: nothing after it is written by this process."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _filled(tmp_path_factory.mktemp("whole")).until(DAYS + 0.5)


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_stream_goes_on_to_the_same_releases(whole, tmp_path, seed):
    life, draw = _filled(tmp_path), random.Random(seed)
    for _ in range(3):
        left = [draw.randrange(1, 60)]
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PeBeamError):
            for name in ("commit", "update", "append", "delete"):
                patch.setattr(LocalStore, name, _dying(getattr(LocalStore, name), left))
            life.until(DAYS + 0.5)
    store = life.until(DAYS + 0.5)
    lines = Counter((line["window"], line["iteration"]) for line in read_lines(store))
    assert len(lines) == DAYS
    assert set(lines.values()) == {1}
    for day in range(DAYS):
        assert manifest(store, day)["positions"] == manifest(whole, day)["positions"]
        mine, theirs = released(store, day), released(whole, day)
        assert mine == theirs


def _dying(method, left):
    """The method, until a number of writes is used up; then this one and all that follow fail."""

    def call(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise _KillError("killed")
        return method(self, *args, **kwargs)

    return call
