"""What evaluations of small runs do without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pe_beam.contracts.metric import Comparison, Measured


@pytest.fixture(scope="module", autouse=True)
def _no_network_learns(request: pytest.FixtureRequest) -> Iterator[None]:
    """The network of pictures takes seconds a population: tests/modalities/image/metrics have it, and a whole run.

    In this process alone: what a module compares with another process has it as well.
    """

    def known(comparison: Comparison) -> Measured:
        return Measured(figures={"cnn_accuracy": 0.5})

    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_again"):
            patch.setattr("pe_beam.modalities.image.metrics.classifiers.small_cnn", known)
        yield
