"""What evaluations of small runs do without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.evaluation.pictures import UNTRAINED, untrained


@pytest.fixture(scope="module", autouse=True)
def _no_network_learns() -> Iterator[None]:
    """The network of pictures takes seconds a population: tests/modalities/image/metrics have it, and the benchmark.

    In this process alone: `test_again` puts it into the one that it starts as well.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNTRAINED, untrained)
        yield
