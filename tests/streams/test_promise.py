"""What a stream promises is what one window costs, or as many as a client may be in, by independent accounting."""

from __future__ import annotations

import functools
import json
import math
import shutil

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.driver.status import privacy
from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.privacy.loss import numeric_epsilon
from pe_beam.recipe.identity import to_plain, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.releases.reading import open_release
from pe_beam.streams.promise import promise, read_promise
from tests.streams.drifting import Life, put, stream_recipe


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


def test_a_plan_says_what_all_windows_promise(tmp_path, capsys):
    """It told a window's epsilon alone, and the promise of a client's three windows came when the stream began."""
    recipe = stream_recipe(tmp_path, privacy__unit="client", stream__client_windows=3)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert main(["plan", str(tmp_path / "recipe.yaml")]) == 0
    said = promise(recipe)["epsilon"]
    assert f"all windows together, however many: epsilon {said:.4g}, delta 1e-05" in capsys.readouterr().out
    assert main(["plan", str(tmp_path / "recipe.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stream"]["epsilon"] == said
    assert main(["plan", str(tmp_path / "recipe.yaml"), "--set", "stream.stamp='%y-%m-%d.jsonl'"]) == 2
    assert "stream.stamp: '%y-%m-%d.jsonl' tells no instant" in capsys.readouterr().err


def test_measured_marginals_and_samples_are_counted(tmp_path):
    said = promise(stream_recipe(tmp_path, privacy__marginals={"budget": 0.3}))
    paid = [*said["noise_multiplier"], said["label_shares_noise_multiplier"]]
    assert said["epsilon"] == pytest.approx(numeric_epsilon(paid, 1e-5), rel=1e-3)
    sampled = promise(stream_recipe(tmp_path, privacy__sampling_rate=0.5))
    assert sampled["mu"] is None
    assert sampled["epsilon"] == pytest.approx(2, rel=1e-3)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Makes a run, maybe over a stream's own records, by its epsilon."""

    @functools.cache
    def made(epsilon):
        folder = tmp_path_factory.mktemp("begun")
        (folder / "rows.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in range(20)))
        plain = to_plain(stream_recipe(folder, privacy__epsilon=epsilon, privacy__delta=2e-5)) | {"stream": None}
        plain["data"] |= {"path": str(folder / "rows.jsonl")}
        evolve(parse_recipe(plain), folder / "run")
        return str(folder / "run")

    return made


def test_what_the_first_window_starts_from_is_counted(tmp_path, begun):
    """All windows follow from that release, and it may be one over the stream's own records unless its holder says."""
    start = {"release": begun(4)}
    alone, said = (promise(stream_recipe(tmp_path, **given)) for given in ({}, {"evolution__start": start}))
    spent = [*alone["noise_multiplier"], *open_release(start["release"]).privacy["noise_multiplier"]]
    assert said["epsilon"] == pytest.approx(numeric_epsilon(spent, 2e-5), rel=1e-3)
    assert said["mu"] == pytest.approx(math.sqrt(sum(1 / z**2 for z in spent)))
    assert said["delta"] == 2e-5
    assert "The first window starts from an earlier release; what that" in said["statement"]
    life = Life(tmp_path, {"evolution__start": start})
    put(tmp_path, 0, "a", [1, 2, 3])
    store = life.until(1.5)
    [name] = [name for name in store.list_files("windows") if name.endswith("privacy.json")]
    assert read_promise(store) == said
    assert json.loads(store.read(name))["spent_epsilon"] <= said["epsilon"]


def test_a_window_beside_a_run_brings_what_the_stream_has_started_from(tmp_path, begun):
    """Each window calls the data of those before it others, and with them those of the release at their beginning."""
    before, after = begun(4), begun(3)
    life = Life(tmp_path, {"evolution__start": {"release": before}, "stream__fresh": 0.1})
    for day in (0, 1):
        put(tmp_path, day, "a", [1, 2, 3])
    store = life.until(2.5)
    for folder in map(store.at, ("windows/20261201T000000Z", "windows/20261202T000000Z")):
        paid = [z for each in (before, after, folder) for z in open_release(each).privacy["noise_multiplier"]]
        assert privacy([folder, after])["epsilon"] == pytest.approx(spent_epsilon(paid, 2e-5), rel=1e-9)
        # One that is named itself counts once.
        assert privacy([folder, after, before])["epsilon"] == privacy([folder, after])["epsilon"]
        assert privacy([folder])["epsilon"] <= read_promise(store)["epsilon"]


def test_a_window_that_lies_outside_its_stream_is_not_added_up(tmp_path, begun):
    put(tmp_path, 0, "a", [1, 2, 3])
    store = Life(tmp_path).until(1.5)
    shutil.copytree(store.at("windows/20261201T000000Z"), tmp_path / "apart")
    with pytest.raises(InputError, match="apart: beside other runs a window counts as its stream does"):
        privacy([str(tmp_path / "apart"), begun(4)])


@pytest.mark.parametrize(("word", "tells"), [("disjoint", "to share no record"), ("public", "declares public")])
def test_a_start_of_other_data_or_a_public_one_costs_a_stream_nothing(tmp_path, begun, word, tells):
    said = promise(stream_recipe(tmp_path, evolution__start={"release": begun(4), word: True}))
    assert said | {"statement": ""} == promise(stream_recipe(tmp_path)) | {"statement": ""}
    assert tells in said["statement"]


@pytest.mark.parametrize("disjoint", [False, True])
def test_a_stream_starts_from_no_release_without_a_promise(tmp_path, begun, disjoint):
    start = {"release": begun("inf"), "disjoint": disjoint}
    with pytest.raises(RecipeError, match=r"evolution\.start: a stream starts from no release that is NOT PRIVATE"):
        Life(tmp_path, {"evolution__start": start}).until(1.5)
    assert not (tmp_path / "stream/stream.json").exists()


def test_no_noise_is_no_promise(tmp_path):
    said = promise(stream_recipe(tmp_path, privacy__epsilon="inf"))
    assert (said["epsilon"], said["mu"]) == ("inf", "inf")
    assert said["statement"].startswith("NOT PRIVATE")
