"""Commands of documents, and the flags that programs document which are not at hand here.

`flex-template run` and `workflows run` are as the "gcloud CLI reference" has them; other commands are from memory, and
hold what is used or near it. A flag that is not listed has to be looked up.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_EVERYWHERE = {"--project", "--quiet", "--format", "--account", "--verbosity"}
_LAUNCH = {
    "--additional-experiments",
    "--additional-pipeline-options",
    "--additional-user-labels",
    "--dataflow-kms-key",
    "--disable-public-ips",
    "--max-workers",
    "--network",
    "--num-workers",
    "--parameters",
    "--region",
    "--service-account-email",
    "--staging-location",
    "--subnetwork",
    "--worker-machine-type",
    "--worker-region",
    "--worker-zone",
}
KNOWN: dict[tuple[str, ...], tuple[int, set[str], set[str]]] = {
    ("gcloud", "auth", "configure-docker"): (1, {*_EVERYWHERE, "--include-artifact-registry"}, set()),
    ("gcloud", "dataflow", "flex-template", "run"): (
        1,
        {*_EVERYWHERE, *_LAUNCH, "--template-file-gcs-location", "--temp-location", "--launcher-machine-type"},
        {"--template-file-gcs-location"},
    ),
    ("gcloud", "dataflow", "jobs", "run"): (
        1,
        {*_EVERYWHERE, *_LAUNCH, "--gcs-location"} - {"--additional-pipeline-options"},
        {"--gcs-location"},
    ),
    ("gcloud", "dataflow", "jobs", "list"): (0, {*_EVERYWHERE, "--region", "--status", "--filter", "--limit"}, set()),
    ("gcloud", "dataflow", "jobs", "cancel"): (1, {*_EVERYWHERE, "--region", "--force"}, set()),
    ("gcloud", "workflows", "run"): (1, {*_EVERYWHERE, "--location", "--data", "--call-log-level"}, set()),
    ("gcloud", "storage", "cp"): (99, {*_EVERYWHERE, "--recursive", "--no-clobber"}, set()),
    ("gcloud", "storage", "rm"): (99, {*_EVERYWHERE, "--recursive", "--all-versions"}, set()),
    ("docker", "build"): (1, {"-f", "--file", "-t", "--tag", "--build-arg", "--target", "--platform"}, set()),
    ("docker", "push"): (1, {"--quiet", "--all-tags"}, set()),
    ("terraform", "init"): (0, {"-upgrade", "-backend-config"}, set()),
    ("terraform", "apply"): (1, {"-var", "-var-file", "-auto-approve"}, set()),
    ("terraform", "destroy"): (0, {"-var", "-var-file", "-auto-approve"}, set()),
}
"""Command -> (most arguments without a flag, flags, flags that have to be given)."""
_TAKES_NEXT = {"-f", "-t", "--build-arg", "--target"}


def commands(page: Path) -> list[str]:
    """Lines of a page's blocks of commands."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def fault(command: str) -> str | None:
    """What is wrong with a command of a program that is not at hand; None: nothing."""
    words = [word for word in shlex.split(command) if not word.startswith("-chdir=")]
    name = next((known for known in KNOWN if tuple(words[: len(known)]) == known), None)
    if name is None:
        return "not a command of the table"
    most, flags, wanted = KNOWN[name]
    given, arguments, rest = set(), 0, iter(words[len(name) :])
    for word in rest:
        if not word.startswith("-"):
            arguments += 1
            continue
        flag = word.partition("=")[0]
        given.add(flag)
        if flag in _TAKES_NEXT and "=" not in word:
            next(rest)
    if given - flags:
        return f"unknown: {sorted(given - flags)}"
    if wanted - given:
        return f"missing: {sorted(wanted - given)}"
    return "too many arguments" if arguments > most else None
