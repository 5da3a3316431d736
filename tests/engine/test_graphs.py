"""All iterations in one graph: same release, ledger first, resumes from the middle, and what a graph holds."""

from __future__ import annotations

import json

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pe_beam.driver.jobs import new_job
from pe_beam.driver.loop import evolve
from pe_beam.engine.run import Run
from pe_beam.errors import RecipeError
from pe_beam.recipe.loading import parse_recipe
from pipelines import embed as embed_pipeline
from pipelines import evolve as evolve_pipeline
from pipelines import iteration as iteration_pipeline
from tests.whole_runs import release_digests, stop_half_way


@pytest.fixture
def labelled(small):
    small["privacy"]["label_counts"] = {"budget": 0.2}
    small["evolution"]["iterations"] = 3
    return small


def test_unrolled_is_the_same_release(labelled, runs, tmp_path, secret_file):
    one_by_one = runs.finished(labelled)
    evolve(parse_recipe(labelled), tmp_path / "unrolled", secret_file=secret_file, unroll=True)
    assert release_digests(tmp_path / "unrolled") == release_digests(one_by_one)
    assert (tmp_path / "unrolled/ledger.jsonl").read_bytes() == (one_by_one / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize("unroll_again", [True, False])
def test_a_failure_in_the_middle_goes_on_from_there(labelled, runs, tmp_path, secret_file, unroll_again):
    recipe = parse_recipe(labelled)
    stop_half_way(labelled, tmp_path / "run", secret_file, unroll=True)
    lines = [json.loads(line)["iteration"] for line in (tmp_path / "run/ledger.jsonl").read_text().splitlines()]
    assert lines == [0, 1, 2, 3]  # spent before the job began
    assert (tmp_path / "run/release/iteration=0001/manifest.json").exists()
    assert not (tmp_path / "run/release/iteration=0002").exists()
    evolve(recipe, tmp_path / "run", secret_file=secret_file, unroll=unroll_again)
    assert release_digests(tmp_path / "run") == release_digests(runs.finished(labelled))
    assert len((tmp_path / "run/ledger.jsonl").read_text().splitlines()) == 4


def _proto(build, config) -> tuple[object, bytes]:
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    build(pipeline, config)
    proto = pipeline.to_runner_api()
    return proto, proto.SerializeToString()


@pytest.mark.parametrize("unit", ["record", "client"])
def test_one_iteration_is_a_small_plain_graph(unit):
    """No side input, no state, no splittable DoFn (weak spots of portable runners), the same labels for each t."""
    labels = []
    for t in (1, 7):
        config = iteration_pipeline.Config(run_dir="/data/run", iteration=t, unit=unit)
        proto, data = _proto(iteration_pipeline.build, config)
        assert len(data) < 300_000
        labels.append(sorted(x.unique_name for x in proto.components.transforms.values()))
        for transform in proto.components.transforms.values():
            if transform.spec.urn != "beam:transform:pardo:v1":
                continue
            pardo = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not pardo.side_inputs
            assert not pardo.state_specs
            assert not pardo.timer_family_specs
            assert not pardo.restriction_coder_id or "Start" in transform.unique_name, transform.unique_name
    assert labels[0] == labels[1]


def test_the_unrolled_graph_labels_each_iteration():
    config = evolve_pipeline.Config(run_dir="/data/run", first=0, last=8, unit="record", label_shares=True)
    proto, data = _proto(evolve_pipeline.build, config)
    names = {x.unique_name for x in proto.components.transforms.values()}
    assert {f"Iteration {t:02d}" for t in range(9)} <= names
    assert len(data) < 500_000


def _steps(proto):
    """Transforms of a graph: name -> kind."""
    return {x.unique_name: x.spec.urn for x in proto.components.transforms.values()}


def test_the_driver_runs_what_pipelines_build_and_counts_nothing_private(small, tmp_path, secret_file, monkeypatch):
    """Every counter of an iteration's job is known from the recipe alone."""
    small["evolution"]["lookahead"] = 2
    recipe, results, graphs = parse_recipe(small), [], []
    real = beam.Pipeline.run

    def run(self, *args, **options):
        graphs.append(_steps(self.to_runner_api()))
        results.append(real(self, *args, **options))
        return results[-1]

    monkeypatch.setattr(beam.Pipeline, "run", run)
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    run_dir = str(tmp_path / "run")
    built = [_proto(embed_pipeline.build, embed_pipeline.Config(run_dir=run_dir))[0]]
    for t in range(3):
        config = iteration_pipeline.Config(run_dir=run_dir, iteration=t, unit="record")
        built.append(_proto(iteration_pipeline.build, config)[0])
    assert graphs == [_steps(proto) for proto in built]
    metrics = results[-1].metrics().query()
    counters = {c.key.metric.name: c.committed for c in metrics["counters"]}
    ours = {c.key.metric.name for c in metrics["counters"] if c.key.metric.namespace.startswith("pe_beam")}
    assert ours == {"generator_calls", "candidates_embedded"}
    assert counters["candidates_embedded"] == 40
    assert sum(c.committed for c in metrics["counters"] if c.key.metric.name == "generator_calls") == 2 * 40 + 40
    assert {d.key.metric.name for d in metrics["distributions"]} == {"generated_chunk_milliseconds"}


def test_stages_may_want_machines_of_their_own(small):
    small["execution"] = {"stages": {"vote": {"cpu_count": 8}, "generate": {"accelerator": "type:nvidia-l4;count:1"}}}
    hints = parse_recipe(small).execution.stages.hints()
    assert hints == {"vote": {"cpu_count": "8"}, "generate": {"accelerator": "type:nvidia-l4;count:1"}}
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    config = iteration_pipeline.Config(run_dir="/data/run", iteration=1, unit="record", hints=hints)
    iteration_pipeline.build(pipeline, config)
    parts = pipeline.to_runner_api().components
    names = ("Iteration/Count/Vote", "Iteration/Vary/Generate", "Iteration/Embed/EmbedCandidates")
    wants = {
        transform.unique_name.split("/")[1]: dict(parts.environments[transform.environment_id].resource_hints)
        for transform in parts.transforms.values()
        if transform.unique_name in names
    }
    assert wants == {
        "Count": {"beam:resources:cpu_count:v1": b"8"},
        "Vary": {"beam:resources:accelerator:v1": b"type:nvidia-l4;count:1"},
        "Embed": {},
    }


@pytest.mark.parametrize(
    ("runner", "more", "flags"),
    [
        ("FnApiRunner", [], ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]),
        ("FnApiRunner", ["--direct_num_workers=5"], []),
        ("FlinkRunner", [], ["--parallelism=3"]),
        ("PrismRunner", [], []),
    ],
)
def test_parallelism_is_the_runners_own_flag(small, tmp_path, runner, more, flags):
    small["execution"] = {"parallelism": 3}
    job = new_job(Run(str(tmp_path), parse_recipe(small)), [f"--runner={runner}", *more])
    assert job.args == [f"--runner={runner}", *more, *flags]


def test_a_wrong_hint_spends_nothing(small, tmp_path):
    small["execution"] = {"stages": {"vote": {"min_ram": "plenty"}}, "blas_threads": 1}
    with pytest.raises(RecipeError, match=r"execution\.stages\.vote\.min_ram: 'plenty'"):
        evolve(parse_recipe(small), tmp_path / "run")
    assert not (tmp_path / "run/private").exists()
    small["execution"] = {"blas_threads": 1}
    evolve(parse_recipe(small), tmp_path / "run")  # and what is mended in execution goes on
