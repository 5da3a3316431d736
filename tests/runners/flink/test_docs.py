"""docs/flink.md: every command is one that the programs take, every file one that is there."""

from __future__ import annotations

import re
import shlex

import pytest

from pe_beam.cli.main import command_line
from pe_beam.runners.flink.__main__ import _parser as flink_parser
from tests.whole_runs import ROOT

TEXT = (ROOT / "docs" / "flink.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", [each for each in COMMANDS if not each.startswith(("docker", "kubectl"))])
def test_the_programs_take_what_is_written(command):
    words = shlex.split(command)
    if words[0] == "pe-beam":
        options = command_line().parse_args(words[1 : words.index("--")])
        assert (ROOT / options.recipe).exists()
        assert words[words.index("--") + 1].startswith(("--runner=FlinkRunner", "$(python"))
        assert "$(" not in command or "$(python -m pe_beam.runners.flink flags)" in command
    else:
        assert words[:3] == ["python", "-m", "pe_beam.runners.flink"]
        flink_parser().parse_args(words[3:])


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith(("docker", "kubectl"))])
def test_files_of_docker_and_kubectl_are_there(command):
    for path in re.findall(r"templates/[\w./-]+", command):
        assert (ROOT / path).is_file(), path


def test_every_manifest_is_applied():
    applied = set(re.findall(r"kubectl apply -f templates/flink/kubernetes/(\S+)", TEXT))
    top = ROOT / "templates/flink/kubernetes"
    assert applied == {str(path.relative_to(top)) for path in top.rglob("*.yaml")}
