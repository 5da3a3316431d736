"""What a stream promises is what one window costs, or as many as a client may be in, by independent accounting."""

from __future__ import annotations

import math

import pytest

from pe_beam.privacy.loss import numeric_epsilon
from pe_beam.streams.promise import promise
from tests.streams.drifting import stream_recipe


def test_a_stream_of_records_costs_one_window(tmp_path):
    said = promise(stream_recipe(tmp_path, evolution__iterations=3))
    assert said["epsilon"] == pytest.approx(numeric_epsilon(said["noise_multiplier"], 1e-5), rel=1e-3)
    assert said["epsilon"] <= 2
    assert said["mu"] == pytest.approx(math.sqrt(sum(1 / z**2 for z in said["noise_multiplier"])))
    assert "one record more or fewer in the stream" in said["statement"]
    assert "Each record votes in exactly one window" in said["statement"]


@pytest.mark.parametrize("windows", [1, 4])
def test_a_stream_of_clients_costs_their_windows(tmp_path, windows):
    said = promise(stream_recipe(tmp_path, privacy__unit="client", stream__client_windows=windows))
    paid = said["noise_multiplier"] * windows
    assert said["epsilon"] == pytest.approx(numeric_epsilon(paid, 1e-5), rel=1e-3)
    one = promise(stream_recipe(tmp_path, privacy__unit="client"))
    assert said["mu"] == pytest.approx(one["mu"] * math.sqrt(windows))
    assert said["window_epsilon"] == 2


def test_measured_marginals_and_samples_are_counted(tmp_path):
    said = promise(stream_recipe(tmp_path, privacy__marginals={"budget": 0.3}))
    paid = [*said["noise_multiplier"], said["label_shares_noise_multiplier"]]
    assert said["epsilon"] == pytest.approx(numeric_epsilon(paid, 1e-5), rel=1e-3)
    sampled = promise(stream_recipe(tmp_path, privacy__sampling_rate=0.5))
    assert sampled["mu"] is None
    assert sampled["epsilon"] == pytest.approx(2, rel=1e-3)


def test_no_noise_is_no_promise(tmp_path):
    said = promise(stream_recipe(tmp_path, privacy__epsilon="inf"))
    assert (said["epsilon"], said["mu"]) == ("inf", "inf")
    assert said["statement"].startswith("NOT PRIVATE")
