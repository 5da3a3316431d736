"""Runs graphs on Google Cloud Dataflow, with Beam's DataflowRunner.

A job outlives its driver, so its name follows from run directory and step. A driver looks for the active job of that
name and attaches to it, and submits one only where there is none and the step's work is not committed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from pe_beam import console
from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, PeBeamError, StageError
from pe_beam.runners.dataflow import check, names
from pe_beam.runners.dataflow.explain import DataflowError, explain_bucket, explain_job, explain_request
from pe_beam.runners.dataflow.service import JobFailedError, Service, WatchLostError
from pe_beam.runners.options import Options
from pe_beam.runners.traces import keep_trace, own_error

TEMPORARY = "work/dataflow/temporary"


class DataflowRunner(Runner):
    """Runs graphs on Google Cloud Dataflow."""

    parallelism_flag = "--num_workers"
    sees_disks = False

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:
        """See Runner. It checks the flags, and then makes sure that the service answers."""
        options = _options(store, args)
        check.check(target_of(store, options), client_ids=client_ids)
        check_key(options)
        check_files(options)
        mark = names.mark_of(store)
        _check_buckets(_asked(options, mark)[0], options)
        _check_place(store, options, mark)

    def shown_as(self, graph: Graph, args: Sequence[str]) -> str:
        """See Runner."""
        name = names.job_name(graph.label, graph.run_id, names.mark_of(graph.store))
        return f"Dataflow job {name} ({_where(_options(graph.store, args))})"

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        options = _completed(graph.store, job_options(args))
        mark = names.mark_of(graph.store)
        name = names.job_name(graph.label, graph.run_id, mark)
        _name(options, graph, name)
        said = f"Dataflow job {name} ({_where(options)})"
        service, active = _asked(options, mark)
        if graph.is_done is not None:
            _wait_for_others(service, {other: job for other, job in active.items() if other != name}, _where(options))
        job, ours = active.get(name), None
        if job is None:
            if graph.is_done is not None and graph.is_done():
                return  # the job of a driver before ended after this one had looked at the run directory
            with console.adding(f"{said} may have been submitted, and goes on if so"):
                ours = _submitted(graph, options)
                job = ours or _asked(options, mark)[1].get(name)
        if ours is None and not graph.joins:
            raise DataflowError(f"{said} of an earlier command is active; cancel it, or run again when it has ended")
        if job is not None:
            with console.adding(f"{said} goes on, and the same command waits for it again"):
                _wait(service, job, graph, said)


def _asked(options: Any, mark: str) -> tuple[Service, dict[str, Any]]:
    """Returns the service, and the active jobs of a run directory by name."""
    try:
        service = Service(options)
        return service, service.active(mark)
    except Exception as error:
        raise explain_request(error, _where(options)) or error from None


def _wait_for_others(service: Service, others: dict[str, Any], where: str) -> None:
    """Waits for jobs of other steps that a killed driver left, so that two jobs never make the same iterations.

    Such are the unrolled job and one of an iteration. How they end shows in what they commit.
    """
    for name, job in others.items():
        said = f"Dataflow job {name} ({where})"
        with console.adding(f"{said} goes on, and the same command waits for it again"):
            try:
                service.wait(job)
            except JobFailedError:
                continue
            except WatchLostError:
                raise _lost(said) from None


def _submitted(graph: Graph, options: Any) -> Any | None:
    """Submits the job of a graph. Returns None if there is an active job of its name."""
    from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

    pipeline = beam.Pipeline(options=options)
    graph.build(pipeline)
    graph.store.demand_lock()  # another driver may have taken over since
    try:
        return pipeline.run()._job
    except DataflowJobAlreadyExistsError:
        return None
    except PeBeamError:
        raise
    except Exception as error:
        found = explain_request(error, _where(options))
        if found is not None:
            keep_trace(graph.store, graph.label, str(error))
        raise found or error from None


def _wait(service: Service, job: Any, graph: Graph, said: str) -> None:
    """Waits for a job. A failure becomes one sentence, and all that the job said goes to `private/errors`."""
    try:
        service.wait(job)
    except WatchLostError:
        raise _lost(said) from None
    except JobFailedError as error:
        own = own_error(error.text)
        if own is not None:
            raise own from None
        if error.state == "CANCELLED":
            raise DataflowError(f"{said} was cancelled; run again: a new job goes on from what is committed") from None
        known = explain_job(error.text)
        where = keep_trace(graph.store, graph.label, error.text)
        raise StageError(
            f"{graph.label}: {said} failed"
            + (f": {known}" if known else f" ({error.state})")
            + f"; what it said is in {where} and on its page in the console"
        ) from None


def _name(options: Any, graph: Graph, name: str) -> None:
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    cloud.job_name = name
    labels = names.job_labels(graph.label, graph.run_id)
    cloud.labels = [*(cloud.labels or []), *(f"{key}={value}" for key, value in labels.items() if value)]


def _lost(said: str) -> DataflowError:
    return DataflowError(f"{said} goes on, but Dataflow stopped answering; run again: the same command waits for it")


def _options(store: Store, args: Sequence[str]) -> Any:
    return _completed(store, Options(list(args)))


def _completed(store: Store, options: Any) -> Any:
    """Returns Beam's options, with defaults for where files lie that jobs need."""
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    if not cloud.temp_location and store.uri.startswith("gs://"):
        cloud.temp_location = store.at(TEMPORARY)
    cloud.staging_location = cloud.staging_location or cloud.temp_location
    # Graphs name classes of the package: of the driver's main module nothing may go out.
    options.view_as(beam_options.SetupOptions).save_main_session = False
    return options


def job_options(args: Sequence[str]) -> Any:
    """Returns Beam's options of a job that shows no element: see `check.NO_SAMPLES` and `check.PLAIN`.

    The key of --gbek is for the shuffle of client ids alone (`transforms.vote`): Beam's own --gbek would encrypt every
    shuffle, and fail.
    """
    key = Options(list(args)).view_as(beam_options.SetupOptions).gbek
    hidden = [] if key in (None, check.PLAIN) else [f"--client_shuffle_key={key}"]
    options = Options([*args, *hidden])
    options.view_as(beam_options.SetupOptions).gbek = None
    options.view_as(beam_options.DebugOptions).add_experiment(check.NO_SAMPLES)
    return options


def target_of(store: Store, options: Any) -> check.Target:
    """Returns what Beam's options say of a job."""
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    setup = options.view_as(beam_options.SetupOptions)
    workers = options.view_as(beam_options.WorkerOptions)
    values = options.get_all_options()
    switches = (*(values["experiments"] or []), *(cloud.dataflow_service_options or []))
    dumps = {check.DUMPS} if values.get("profiler_agent") == "coredump" else set()
    return check.Target(
        run_dir=store.uri,
        project=cloud.project or "",
        region=cloud.region or "",
        temp_location=cloud.temp_location or "",
        staging_location=cloud.staging_location or "",
        gbek=setup.gbek or "",
        has_package=any(
            (
                workers.sdk_container_image,
                workers.worker_harness_container_image,
                setup.setup_file,
                setup.extra_packages,
                setup.requirements_file,
            )
        ),
        given=frozenset({name for name in check.REFUSED if values.get(name)} | set(switches) | dumps),
    )


def check_files(options: Any) -> None:
    """Refuses files for workers that are not there: Beam finds out when it stages a job. Raises InputError."""
    setup = options.view_as(beam_options.SetupOptions)
    named = [("setup_file", setup.setup_file), ("requirements_file", setup.requirements_file)]
    for flag, path in [*named, *(("extra_package", path) for path in setup.extra_packages or [])]:
        if path and "://" not in path and not Path(path).is_file():
            raise InputError(f"--{flag}={path}: there is no such file")


def check_key(options: Any) -> None:
    """Refuses a key of --gbek that Beam does not read. Raises InputError."""
    from apache_beam.utils.secret import Secret

    given = options.view_as(beam_options.SetupOptions).gbek
    if given in (None, check.PLAIN):
        return
    try:
        Secret.parse_secret_option(given)
    except (ValueError, TypeError):
        raise InputError(
            f"--gbek={given}: is no key as Beam reads it; 'type:GcpSecret;version_name:projects/PROJECT/secrets/NAME/"
            "versions/1' is wanted, of a secret that `Secret.generate_secret_bytes()` made"
        ) from None


def _check_buckets(service: Service, options: Any) -> None:
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    for place in sorted({cloud.temp_location, cloud.staging_location}):
        try:
            service.find_bucket(place)
        except Exception as error:
            raise explain_bucket(error, place, _where(options)) or error from None


def _check_place(store: Store, options: Any, mark: str) -> None:
    """Refuses another project or region while a job of the run is active where the driver before sent it."""
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    here = json.dumps({"project": cloud.project, "region": cloud.region})
    before = store.read(names.PLACE).decode() if store.exists(names.PLACE) else here
    if before != here:
        there = options.from_dictionary(options.get_all_options(drop_default=True) | json.loads(before))
        for name in _asked(there, mark)[1]:
            raise InputError(
                f"--project, --region: Dataflow job {name} of this run is active in {_where(there)}; name these until "
                "it has ended, or cancel it"
            )
    if before != here or not store.exists(names.PLACE):
        store.commit(names.PLACE, here.encode(), replace=True)


def _where(options: Any) -> str:
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    return f"project {cloud.project}, region {cloud.region}"
