"""A run that starts from a finished release (`evolution.start`): what it takes, what it costs, what it refuses."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.driver.reporting import record_so_far
from pe_beam.driver.status import privacy, status
from pe_beam.engine.run import open_run
from pe_beam.errors import DataError, InputError, RecipeError
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.privacy.loss import numeric_epsilon
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.releases.reading import open_release
from pipelines import embed, iteration
from tests.modalities.tabular.tables import TABLE, rows
from tests.modalities.text.recipes import KEY, TEXTS, serve, write_texts
from tests.modalities.text.server import Served
from tests.whole_runs import SMALL, release_digests, stop_before_the_first_vote, stop_half_way

FIRST = copy.deepcopy(SMALL) | {"name": "first"}
FIRST["evolution"] = {"iterations": 1, "samples": 40}


@pytest.fixture
def first(runs) -> Path:
    """A finished run of one iteration, which nothing may change."""
    return runs.finished(FIRST)


@pytest.fixture
def sent(first, tmp_path) -> Path:
    """A copy of its release folder, as another holder gets it."""
    return Path(shutil.copytree(first / "release", tmp_path / "sent"))


def after(release: Path | str, **start: Any) -> dict[str, Any]:
    """A recipe of one iteration that starts from a release."""
    recipe = copy.deepcopy(FIRST) | {"name": "second"}
    recipe["evolution"]["start"] = {"release": str(release), **start}
    return recipe


def edit(path: Path, **values: Any) -> None:
    """Changes keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def forge(release: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the last population of a release, and its manifest with it, as a faulty writer might have."""
    folder = release / "iteration=0001"
    name = folder / "population/part-00000.parquet"
    pq.write_table(change(pq.read_table(name, partitioning=None)), name)
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    listed["population/part-00000.parquet"]["sha256"] = hashlib.sha256(name.read_bytes()).hexdigest()
    edit(folder / "manifest.json", files=listed)


def column(name: str, values: Callable[[list[Any]], list[Any]], kind: pa.DataType | None = None) -> Any:
    """Returns a change of one column."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(values(table[name].to_pylist()), kind or table[name].type))

    return change


# --- what it takes --------------------------------------------------------------------------------------------------


@pytest.mark.reported
def test_a_run_starts_from_a_release_and_a_share_of_new_candidates(first, sent, tmp_path, secret_file, capsys):
    run = evolve(parse_recipe(after(first, fresh=0.25)), tmp_path / "run", secret_file=secret_file)
    release = open_release(tmp_path / "run")
    before, begun = open_release(first).population(1), release.population(0)
    assert begun["candidate_id"].to_pylist() == list(range(40)) and begun["parent_id"].null_count == 40
    assert begun["origin"].to_pylist() == ["kept"] * 30 + ["random"] * 10
    content = ["label", "state", "image"]
    there = [tuple(row.values()) for row in before.select(content).to_pylist()]
    taken = [tuple(row.values()) for row in begun.slice(0, 30).select(content).to_pylist()]
    assert len(set(taken)) == 30 and set(taken) <= set(there)
    assert all(row not in there for row in map(tuple, map(dict.values, begun.slice(30).select(content).to_pylist())))
    labels = [str(x) for x in range(10)]
    assert release.manifest(0)["start"] == {
        "release": run.recipe.evolution.start.found.digest,
        "states": "kept",
        "taken": dict.fromkeys(labels, 3),
        "fresh": dict.fromkeys(labels, 1),
    }
    told = (tmp_path / "run/release/recipe.json").read_text() + json.dumps(release.manifest(0))
    assert str(first) not in told and "(withheld)" in told
    page = (tmp_path / "run/release/report.html").read_text()
    assert "It begins with 30 candidates of an earlier release and 10 new ones." in page and str(first) not in page
    assert main(["report", str(tmp_path / "run")]) == 0

    # From the release folder alone, in another place: no private file, no recipe.yaml, and the same bytes.
    evolve(parse_recipe(after(sent, fresh=0.25)), tmp_path / "again", secret_file=secret_file)
    assert release_digests(tmp_path / "again") == release_digests(tmp_path / "run")
    evolve(parse_recipe(after(sent, fresh=0.25)), tmp_path / "run")  # complete, and the same run
    assert str(sent) in (tmp_path / "run/recipe.yaml").read_text()
    capsys.readouterr()
    assert main(["privacy", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["start"]["declared"] == "same"


def test_more_samples_and_a_label_that_it_lacks_are_filled_up_and_fewer_are_drawn(first, sent, tmp_path):
    forge(sent, lambda table: table.slice(2))
    edit(sent / "iteration=0001/manifest.json", candidates={"0": 2} | {str(x): 4 for x in range(1, 10)})
    more = after(sent, fresh=0)
    more["evolution"] |= {"samples": 80, "variations": 2, "iterations": 1}
    evolve(parse_recipe(more), tmp_path / "more")
    told = open_release(tmp_path / "more").manifest(0)["start"]
    assert told["taken"] == {"0": 2} | {str(x): 4 for x in range(1, 10)}
    assert told["fresh"] == {"0": 6} | {str(x): 4 for x in range(1, 10)}
    fewer = after(first, fresh=0)
    fewer["evolution"]["samples"] = 20
    drawn = {}
    for seed in (0, 0, 1):
        where = f"memory://fewer-{len(drawn)}-{tmp_path}"
        evolve(parse_recipe(fewer | {"seed": seed}), where)
        drawn[where] = open_release(where).population(0)["image"].to_pylist()
    one, same, other = drawn.values()
    assert len(set(one)) == 20 and one == same and one != other


def test_it_goes_on_after_a_kill_and_in_one_job_to_the_same_bytes(first, tmp_path, secret_file):
    recipe = after(first)
    recipe["evolution"]["iterations"] = 2
    evolve(parse_recipe(recipe), tmp_path / "whole", secret_file=secret_file)
    for how in (False, True):
        stop_half_way(recipe, tmp_path / f"half-{how}", secret_file, unroll=how)
        assert "is counted in" in record_so_far(open_run(tmp_path / f"half-{how}"))["statement"]
        evolve(parse_recipe(recipe), tmp_path / f"half-{how}", unroll=how)
        assert release_digests(tmp_path / f"half-{how}") == release_digests(tmp_path / "whole")


def test_labels_may_be_measured_first(first, tmp_path):
    recipe = after(first)
    recipe["privacy"]["label_counts"] = {"budget": 0.2}
    evolve(parse_recipe(recipe), tmp_path / "run")
    manifest = open_release(tmp_path / "run").manifest(0)
    assert "labels/part-00000.parquet" in manifest["files"]
    start = manifest["start"]
    assert {label: start["taken"][label] + start["fresh"][label] for label in start["taken"]} == manifest["candidates"]


def test_a_table_starts_from_rows_of_another(tmp_path):
    """The generator varies any row, so that states are not needed; nor is the folder of the recipe a disk."""
    pq.write_table(rows(), tmp_path / "data.parquet")
    table = copy.deepcopy(TABLE)
    table["data"] |= {"source": "parquet", "path": str(tmp_path / "data.parquet")}
    shelf = f"memory://shelf{tmp_path}"
    evolve(parse_recipe(table), f"{shelf}/one")
    table["generator"]["missing"] = 0.25  # another generator
    table["evolution"]["start"] = {"release": "one"}
    found = parse_recipe(table, folder=shelf)
    assert found.evolution.start.release == f"{shelf}/one" and found.evolution.start.found.states == "dropped"
    evolve(found, f"{shelf}/two")
    assert set(open_release(f"{shelf}/two").population(0)["origin"].to_pylist()) == {"kept", "random"}
    table["data"]["schema"]["columns"]["age"]["max"] = 20  # what the release has is not what is declared now
    with pytest.raises(RecipeError, match=r"evolution.start.release .* is no record of data as they are declared"):
        evolve(parse_recipe(table, folder=shelf), f"{shelf}/three")


def test_texts_start_from_those_of_another_model(tmp_path, monkeypatch):
    """A language model varies any text; what a run asks for anew is the fresh share alone."""
    monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
    recipe = copy.deepcopy(TEXTS)
    recipe["data"]["path"] = str(write_texts(tmp_path / "private.csv"))
    recipe["evolution"] = {"iterations": 1, "samples": 12}
    with Served(tmp_path / "log", key=KEY, models=["tiny", "other"]) as server:
        serve(recipe, server)
        evolve(parse_recipe(recipe), tmp_path / "one")
        recipe["generator"]["model"] = "other"
        recipe["evolution"]["start"] = {"release": str(tmp_path / "one"), "fresh": 0.5}
        evolve(parse_recipe(recipe), tmp_path / "two")
    begun = open_release(tmp_path / "two").population(0)
    assert begun["origin"].to_pylist() == ["kept"] * 6 + ["random"] * 6
    assert set(begun["text"].to_pylist()[:6]) <= set(open_release(tmp_path / "one").population(1)["text"].to_pylist())
    assert begun["state"].to_pylist()[:6] == [None] * 6


def test_pipelines_bring_it_too(first, tmp_path):
    """Of jobs that a driver waits for, and of jobs that are handed over."""
    recipe = after(first)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    evolve(parse_recipe(recipe), tmp_path / "driven")
    for name, flags in (("waited", []), ("left", ["--no_wait_until_finish"])):
        of = [f"--run_dir={tmp_path / name}", *flags]
        assert embed.main([f"--recipe={tmp_path / 'recipe.yaml'}", *of]) == 0
        shutil.rmtree(tmp_path / name / "work/start")  # as if embedding had been done by an older version
        assert iteration.main(["--iteration=0", *of]) == iteration.main(["--iteration=1", *of]) == 0
        assert open_release(tmp_path / name).population(0).equals(open_release(tmp_path / "driven").population(0))
        assert open_release(tmp_path / name).manifest(0) == open_release(tmp_path / "driven").manifest(0)


# --- which one it is ------------------------------------------------------------------------------------------------


def test_the_run_id_binds_the_release_and_not_its_place(first, sent):
    one, two = parse_recipe(after(first)), parse_recipe(after(sent))
    assert run_id(one) == run_id(two) and one != two
    assert run_id(parse_recipe(after(first, disjoint=True))) != run_id(one)
    edit(sent / "privacy.json", statement="another one")
    assert run_id(parse_recipe(after(sent))) != run_id(one)


def test_a_release_that_has_changed_is_refused(first, runs, sent, tmp_path, secret_file):
    recipe = after(sent)
    read = parse_recipe(recipe)
    stop_before_the_first_vote(recipe, tmp_path / "run", secret_file)
    shutil.rmtree(sent)
    shutil.copytree(runs.finished(FIRST | {"seed": 1}) / "release", sent)
    with pytest.raises(RecipeError, match=r"another recipe; it differs in evolution\.start\.found\.ancestors\.*"):
        evolve(parse_recipe(recipe), tmp_path / "run")
    with pytest.raises(RecipeError, match="not the release that this recipe was read with"):
        evolve(read, tmp_path / "new")
    assert not (tmp_path / "run/ledger.jsonl").exists() and not (tmp_path / "new/ledger.jsonl").exists()
    evolve(load_recipe(tmp_path / "run/recipe.yaml"), tmp_path / "run")  # it has what it took, and needs no more


def test_what_another_run_has_left_in_the_directory_is_not_taken(first, runs, tmp_path):
    """A run that stopped before it had spent anything, and whose recipe somebody has taken away."""
    bad = after(runs.finished(FIRST | {"seed": 1}), fresh=0)
    bad["data"]["source"], bad["data"]["path"] = "parquet", str(tmp_path / "not-there.parquet")
    with pytest.raises(DataError):
        evolve(parse_recipe(bad), tmp_path / "run")
    assert len(list((tmp_path / "run/work/start").iterdir())) == 1
    (tmp_path / "run/recipe.yaml").unlink()
    evolve(parse_recipe(after(first, fresh=0)), tmp_path / "run")
    taken, there = (
        open_release(run).population(t)["image"].to_pylist() for run, t in ((tmp_path / "run", 0), (first, 1))
    )
    assert set(taken) <= set(there)


# --- what it costs --------------------------------------------------------------------------------------------------


def planned(recipe: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    found = parse_recipe(recipe)
    return found, make_plan(found).to_json()["start"]


def test_the_cost_is_added_and_counted_once(first, tmp_path, capsys):
    evolve(parse_recipe(after(first)), tmp_path / "second")
    record = json.loads((tmp_path / "second/release/privacy.json").read_text())
    both = spent_epsilon(record["noise_multiplier"] * 2, 1e-5)
    assert record["epsilon"] == record["spent_epsilon"] == both > 1.4
    assert both == pytest.approx(numeric_epsilon(record["noise_multiplier"] * 2, 1e-5), rel=1e-4)  # by another method
    assert record["start"]["own"]["epsilon"] == 1 and record["start"]["own"]["spent_epsilon"] < 1
    assert "is counted in" in record["statement"] and "(1.46517, 1e-05)" in record["statement"]
    assert status(str(tmp_path / "second"))["epsilon_spent"] == both
    for named in (["second"], ["second", "first"]):  # one that is named itself is not counted twice
        dirs = [str(first) if name == "first" else str(tmp_path / name) for name in named]
        assert privacy(dirs)["epsilon"] == both
    recipe = tmp_path / "third.yaml"
    recipe.write_text(json.dumps(after("second")))  # relative to the recipe
    assert main(["plan", str(recipe)]) == 0
    assert "2 added: epsilon 1.835 with this run, delta 1e-05" in capsys.readouterr().out
    assert main(["privacy", str(tmp_path / "second")]) == 0
    assert "before it, on the same data: release" in capsys.readouterr().out


def test_a_client_a_larger_delta_and_samples_are_added_as_they_are_composed(sent):
    edit(sent / "privacy.json", delta=1e-4, sampling_rate=0.5, label_shares_noise_multiplier=20.0, spent_epsilon=0.1)
    recipe, told = planned(after(sent))
    z = make_plan(recipe).schedule.noise_multipliers[0]
    assert told["delta"] == 1e-4 and told["epsilon"] == spent_epsilon([z, z, 20.0], 1e-4)
    edit(sent / "privacy.json", unit="client")
    _, told = planned(after(sent))
    assert (told["epsilon"], told["releases_added"]) == (1, 0)
    assert [(each["data"], each["unit"]) for each in told["apart"]] == [("shared", "client")]


def test_a_line_of_disjoint_data_is_stated_apart_and_stays_short(first, tmp_path):
    place = first
    for window in range(2):
        recipe = after(place, disjoint=True)
        place = tmp_path / f"window-{window}"
        evolve(parse_recipe(recipe), place)
    record = json.loads((place / "release/privacy.json").read_text())
    assert record["epsilon"] == 1 and record["start"]["declared"] == "disjoint"
    [apart] = record["start"]["apart"]
    assert (apart["data"], apart["sets"]) == ("disjoint", 2) and apart["epsilon"] == pytest.approx(1)
    assert "2 sets of other data, which the holder declares to share no record" in record["statement"]
    assert len(record["start"]["ancestors"]) == 1
    _, told = planned(after(place))  # who may share records with all of them has to count them all
    assert told["epsilon"] == spent_epsilon(record["noise_multiplier"] * 4, 1e-5) and not told["apart"]
    shared = after(first)
    evolve(parse_recipe(shared), tmp_path / "shared")
    _, told = planned(after(tmp_path / "shared", disjoint=True))  # those two were of one set of data
    assert [each["epsilon"] for each in told["apart"]] == [spent_epsilon(record["noise_multiplier"] * 2, 1e-5)]


@pytest.mark.parametrize(
    ("unit", "stream"), [("client", {"client_windows": 3}), ("record", {"client_windows": 1, "sliding": 3})]
)
def test_a_window_of_a_stream_costs_a_client_or_record_all_of_its_windows(sent, unit, stream):
    edit(sent / "privacy.json", unit=unit)
    edit(sent / "recipe.json", stream=stream)
    recipe = after(sent)
    if unit == "client":
        recipe["privacy"]["unit"] = "client"
        recipe["data"]["columns"] = {"client": "who"}
    _, told = planned(recipe)
    z = json.loads((sent / "privacy.json").read_text())["noise_multiplier"]
    own = make_plan(parse_recipe(recipe)).schedule.noise_multipliers[0]
    assert told["epsilon"] == spent_epsilon([*z * 3, own], 1e-5)
    recipe["evolution"]["start"]["disjoint"] = True
    assert planned(recipe)[1]["apart"][0]["epsilon"] == spent_epsilon(z * 3, 1e-5)


@pytest.mark.reported
def test_what_has_no_known_promise_makes_none(sent, tmp_path, capsys):
    (sent / "privacy.json").unlink()
    recipe = parse_recipe(after(sent))
    run = evolve(recipe, tmp_path / "run")
    top = tmp_path / "run/release-NOT-PRIVATE"
    assert not (tmp_path / "run/release").exists() and not run.recipe.private
    record = json.loads((top / "privacy.json").read_text())
    assert (record["epsilon"], record["spent_epsilon"], record["start"]["promise"]) == ("inf", "inf", "unknown")
    assert record["noise_multiplier"][0] > 3 and record["start"]["own"]["epsilon"] == 1  # noise there is all the same
    assert record["statement"].startswith("NOT PRIVATE. The run starts from a release")
    assert "whose cost is not known" in json.loads((top / "iteration=0001/manifest.json").read_text())["notice"]
    metadata = pq.read_metadata(top / "samples.parquet").metadata
    assert metadata[b"pe_beam.privacy"].startswith(b"NOT PRIVATE: it starts from")
    page = (top / "report.html").read_text()
    assert "starts from a release without a known promise" in page and "No noise was added" not in page
    assert main(["report", str(tmp_path / "run")]) == 0
    assert not open_release(tmp_path / "run").private and "NOT PRIVATE" in open_release(tmp_path / "run")._repr_html_()
    assert privacy([str(tmp_path / "run")])["epsilon"] == "inf"
    with pytest.raises(InputError, match="NOT-PRIVATE"):
        run_export(tmp_path / "run", tmp_path / "samples.parquet")
    assert planned(after(tmp_path / "run"))[1]["promise"] == "none"  # and so are those that start from it
    assert planned(after(tmp_path / "run", disjoint=True))[1]["epsilon"] == "inf"
    assert planned(after(tmp_path / "run", public=True))[1] | {"release": ""} == {
        "release": "",
        "declared": "public",
        "promise": "public",
        "states": "kept",
        "releases_added": 0,
        "epsilon": 1.0,
        "delta": 1e-5,
        "apart": [],
    }


def run_export(run: Path, to: Path) -> None:
    from pe_beam.driver.export import export

    export(str(run), to)


def test_a_public_release_costs_nothing_and_the_statement_says_so(sent, tmp_path):
    (sent / "privacy.json").unlink()
    evolve(parse_recipe(after(sent, public=True)), tmp_path / "run")
    record = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert record["epsilon"] == 1 and "that the holder declares public" in record["statement"]


def test_another_mechanism_is_not_known_and_noise_of_zero_is_no_promise(sent):
    edit(sent / "privacy.json", mechanism="another one")
    assert planned(after(sent))[1]["promise"] == "unknown"
    edit(sent / "privacy.json", mechanism="none", epsilon="inf")
    assert planned(after(sent))[1]["promise"] == "none"
    recipe = after(sent)
    assert "evolution.start: every artefact" in make_plan(parse_recipe(recipe)).warnings[0]


# --- what it refuses ------------------------------------------------------------------------------------------------

FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an id twice": (
        lambda at: forge(at, column("candidate_id", lambda ids: [ids[1], *ids[1:]])),
        "candidate_id: null, or twice",
    ),
    "a label that is not declared": (
        lambda at: forge(at, column("label", lambda labels: ["ten", *labels[1:]])),
        "label: 'ten' .* allowed: those of data.labels",
    ),
    "other labels than its manifest counts": (
        lambda at: forge(at, column("label", lambda labels: [labels[-1], *labels[1:]])),
        "its manifest counts other candidates",
    ),
    "a column too many": (
        lambda at: forge(at, lambda table: table.append_column("more", table["label"])),
        "its columns are .*more.*; wanted: .*image",
    ),
    "a column of another type": (
        lambda at: forge(at, column("image", lambda images: ["text" for _ in images], pa.string())),
        r"image \(string\); wanted: .*image \(binary\)",
    ),
    "no picture": (
        lambda at: forge(at, column("image", lambda images: [b"nothing", *images[1:]])),
        "candidate 40 cannot be embedded",
    ),
    "a null": (lambda at: forge(at, column("image", lambda images: [None, *images[1:]])), "missing image"),
    "a state that is no JSON": (
        lambda at: forge(at, column("state", lambda states: ["{", *states[1:]])),
        "state: not what a generator",
    ),
    "a state of other keys": (
        lambda at: forge(at, column("state", lambda states: ["{}", *states[1:]])),
        r"state: the generator cannot vary a candidate by it \(.*Error\)",
    ),
    "no state": (
        lambda at: forge(at, column("state", lambda states: [None, *states[1:]])),
        "state: the generator cannot vary a candidate by it",
    ),
    "a file that is cut off": (
        lambda at: (at / "iteration=0001/population/part-00000.parquet").write_bytes(b"PAR1"),
        "population/part-00000.parquet: damaged",
    ),
    "a population that is gone": (
        lambda at: (at / "iteration=0001/population/part-00000.parquet").unlink(),
        "population/part-00000.parquet: missing",
    ),
    "a manifest of another format": (lambda at: edit(at / "iteration=0001/manifest.json", version=2), "format 1"),
    "a manifest that is gone": (lambda at: (at / "iteration=0000/manifest.json").unlink(), "manifest.json: missing"),
    "a promise of another format": (lambda at: edit(at / "privacy.json", version=2), "format 1 is wanted"),
    "a damaged promise": (lambda at: edit(at / "privacy.json", delta="small"), "privacy.json: damaged"),
    "a damaged line": (lambda at: edit(at / "privacy.json", start={"own": {}}), "privacy.json: damaged"),
    "an epsilon that its noise does not explain": (
        lambda at: edit(at / "privacy.json", noise_multiplier=[40.0]),
        "its epsilon does not follow from its noise",
    ),
    "more iterations than its promise counts": (
        lambda at: edit(at / "privacy.json", noise_multiplier=[5.0, 5.0]),
        "its epsilon does not follow from its noise",
    ),
    "a cost below zero": (lambda at: edit(at / "privacy.json", noise_multiplier=[-1.0]), "privacy.json: damaged"),
    "no release": (shutil.rmtree, "no release; a run directory"),
}


@pytest.mark.parametrize("fault", FORGED)
def test_a_release_that_cannot_be_used_is_refused_before_anything_is_spent(fault, sent, tmp_path):
    change, said = FORGED[fault]
    change(sent)
    with pytest.raises(RecipeError, match=f"(?s)^evolution.start.release {re.escape(str(sent))}: .*{said}"):
        evolve(parse_recipe(after(sent)), tmp_path / "run")
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left <= {"recipe.yaml", "lock"}


def test_a_vector_that_is_not_finite_is_refused(first, tmp_path, monkeypatch):
    from pe_beam.contracts.embedder import Embedding
    from pe_beam.modalities.image.pixels import Pixels

    real = Pixels.embed
    monkeypatch.setattr(Pixels, "embed", lambda self, records: Embedding(real(self, records).vectors + math.inf))
    with pytest.raises(RecipeError, match="an embedding that is not finite"):
        evolve(parse_recipe(after(first)), tmp_path / "run")
    assert not (tmp_path / "run/ledger.jsonl").exists()


def test_a_place_that_is_none_is_a_fault_of_the_recipe(tmp_path):
    for place in ("memory://nothing-there", "nowhere://at/all"):
        with pytest.raises(RecipeError, match=f"^evolution.start.release {place}: no "):
            parse_recipe(after(place))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"fresh": 1}, "evolution.start.fresh"),
        ({"disjoint": True, "public": True}, "disjoint: says nothing more"),
        ({"share": 1}, "evolution.start.share: unknown key"),
    ],
)
def test_keys_that_are_not_allowed_are_named(first, start, said):
    with pytest.raises(RecipeError, match=said):
        parse_recipe(after(first, **start))


def test_a_generator_that_needs_its_own_memory_of_a_candidate_says_so(first, sent):
    recipe = after(first)
    recipe["generator"]["size"] = [0.5, 1.0]
    with pytest.raises(
        RecipeError, match=r"generator.name: 'text-render' varies only candidates of its own.*diffusers"
    ):
        parse_recipe(recipe)
    (sent / "recipe.json").unlink()  # a release that does not say what made it
    with pytest.raises(RecipeError, match="varies only candidates of its own"):
        parse_recipe(after(sent))
    recipe = after(first)
    maker = {"name": "letters", "generator": recipe.pop("generator")}
    with pytest.raises(RecipeError, match="with several generators a run starts only from a release of the same ones"):
        parse_recipe(recipe | {"generators": [maker]})


def test_several_generators_go_on_with_their_own(tmp_path):
    letters = {"name": "letters", "to": 1, "generator": {"name": "text-render", "side": 16}}
    bold = {"name": "bold", "generator": {"name": "text-render", "side": 16, "stroke": [0.1, 0.2]}}
    recipe = copy.deepcopy(FIRST) | {"generators": [{**letters, "to": None}, bold]}
    del recipe["generator"]
    evolve(parse_recipe(recipe), tmp_path / "one")
    recipe["evolution"]["start"] = {"release": str(tmp_path / "one")}
    evolve(parse_recipe(recipe), tmp_path / "two")
    assert set(open_release(tmp_path / "two").manifest(0)["generation"]["makers"]) == {"letters", "bold"}
    recipe["evolution"]["iterations"] = 2  # then candidates of letters are in it, and nobody would vary them
    with pytest.raises(RecipeError, match="the phase of letters is over in iteration 2"):
        parse_recipe(recipe | {"generators": [letters, bold]})


def test_nothing_private_of_the_earlier_run_is_read(first, tmp_path, monkeypatch):
    from pe_beam.storage.local import LocalStore

    read: list[str] = []

    def noting(real: Any) -> Any:
        def call(self: LocalStore, name: str, *more: Any) -> Any:
            if self.uri == str(first):
                read.append(name)
            return real(self, name, *more)

        return call

    for method in ("read", "read_range", "open", "mapped", "digest"):
        monkeypatch.setattr(LocalStore, method, noting(getattr(LocalStore, method)))
    evolve(parse_recipe(after(first)), tmp_path / "run")
    assert read and all(name.startswith("release/") for name in read)
