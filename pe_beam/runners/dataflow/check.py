"""Finds faults of the flags for Dataflow, without asking the service."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pe_beam.errors import InputError

PLAIN = "none"
"""The value of `--gbek` that leaves the shuffle as Google encrypts it."""
_REACHED_BY_NOBODY = ("file", "memory")


@dataclass(frozen=True)
class Target:
    """What the Beam flags say of a job and its workers. A value without a flag is "".

    Attributes:
      run_dir: URI of the run directory.
      project: `--project`.
      region: `--region`.
      temp_location: `--temp_location`, or the default.
      staging_location: `--staging_location`, or the default.
      gbek: `--gbek`.
      has_package: True if a flag tells where workers get this package.
      given: names of the options of `REFUSED`, experiments that are set, and `DUMPS` if it is.
    """

    run_dir: str
    project: str
    region: str
    temp_location: str
    staging_location: str
    gbek: str
    has_package: bool
    given: frozenset[str]


HOT_KEYS = "enable_hot_key_logging"
REFUSED = {
    "job_name": "names follow from run and step, so that a driver finds the job of another; leave it out",
    "template_location": "a template is made by the modules in pipelines/; leave it out",
    "dry_run": "nothing would run; `pe-beam plan` checks a recipe without a run",
    "update": "only streaming jobs are updated; leave it out",
    "streaming": "all graphs are batch jobs; leave it out",
    HOT_KEYS: "it writes client ids to the logs of the project; leave it out",
}
"""Options of Beam that are refused where they are set: name -> why."""
DUMPS = "profiler_agent=coredump"
"""The flag with which Beam uploads the memory of workers that end by a fault."""
SAMPLING = ("enable_data_sampling", "enable_always_on_exception_sampling")
"""Experiments that show elements, embeddings of private records among them, in the console."""
NO_SAMPLES = "disable_always_on_exception_sampling"
"""The experiment without which Dataflow keeps the elements that a stage failed on, in the bucket of temporary files.

Google's guide to data sampling says that this is on by default.
"""


def check(target: Target, *, client_ids: bool) -> None:
    """Refuses flags that cannot work or that would tell private things, each in one sentence.

    Raises:
      InputError: the message names the flag.
    """
    _check_places(target)
    for name in sorted(target.given & set(REFUSED)):
        raise InputError(f"--{name}: {REFUSED[name]}")
    check_package(target)
    check_shown(target, client_ids=client_ids)


def check_package(target: Target) -> None:
    """Refuses workers without this package. Raises InputError."""
    if not target.has_package:
        raise InputError(
            "--sdk_container_image: missing; Dataflow's workers need pe_beam, so name an image that has it, or, where "
            "workers may install it at each start, --setup_file=./setup.py of a checkout or --extra_package=a wheel"
        )


def check_shown(target: Target, *, client_ids: bool) -> None:
    """Refuses flags that show private things in the project, and a shuffle of client ids without a word on its key.

    Raises:
      InputError: the message names the flag.
    """
    if HOT_KEYS in target.given:
        raise InputError(f"--{HOT_KEYS}: {REFUSED[HOT_KEYS]}")
    if DUMPS in target.given:
        raise InputError(
            f"--{DUMPS}: workers' memory, with private records and the secret, would go to a bucket; leave it out"
        )
    for name in SAMPLING:
        if name in target.given:
            raise InputError(f"--experiments={name}: the console would show private elements; leave it out")
    if client_ids and not target.gbek:
        raise InputError(
            "--gbek: missing; privacy.unit is client, and client ids pass through Dataflow's shuffle: name a key, "
            "--gbek='type:GcpSecret;version_name:projects/PROJECT/secrets/NAME/versions/1', or accept Google's own "
            f"encryption at rest, --gbek={PLAIN}"
        )


def check_seen(flag: str, uri: str) -> None:
    """Refuses a folder that no worker sees. Raises InputError."""
    scheme = uri.partition("://")[0].lower() if "://" in uri else "file"
    if scheme in _REACHED_BY_NOBODY:
        raise InputError(
            f"{flag} {uri}: Dataflow's workers do not see it; a store is wanted, such as gs://BUCKET/FOLDER "
            "(docs/stores.md)"
        )


def _check_places(target: Target) -> None:
    check_seen("--run-dir", target.run_dir)
    if not target.project:
        raise InputError("--project: missing; the id of the Google Cloud project that jobs run in is wanted")
    if not re.fullmatch(r"(?:[a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", target.project):
        raise InputError(f"--project={target.project}: is no project id (not its number or title)")
    if not target.region:
        raise InputError("--region: missing; the region that jobs run in is wanted, such as europe-west4")
    for flag, place in (("temp", target.temp_location), ("staging", target.staging_location)):
        if not place:
            raise InputError(
                f"--{flag}_location: missing; gs://BUCKET/FOLDER is wanted where --run-dir is not on gs://"
            )
        if not re.fullmatch(r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9]/[^\r\n]+", place):
            raise InputError(f"--{flag}_location={place}: gs://BUCKET/FOLDER is wanted")
    check_outside(target)


def check_outside(target: Target) -> None:
    """Refuses files of jobs among those of the run: `release/` is given away, and `purge` keeps what it does not know.

    Raises:
      InputError: the message names the flag.
    """
    run = f"{target.run_dir}/"
    for flag, place in (("temp", target.temp_location), ("staging", target.staging_location)):
        if f"{place.rstrip('/')}/".startswith(run) and not place.startswith(f"{run}work/"):
            raise InputError(
                f"--{flag}_location={place}: is in the run directory, whose release/ is given away; one elsewhere is "
                "wanted"
            )
