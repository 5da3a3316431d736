"""docs/dataflow.md: commands are ones that the program and the runner take, and its messages are ours."""

from __future__ import annotations

import re
import shlex

import pytest

from pe_beam.cli.main import command_line
from pe_beam.runners.dataflow import check, explain, runner, service
from pe_beam.storage import open_store
from tests.whole_runs import ROOT

TEXT = (ROOT / "docs" / "dataflow.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("pe-beam ")])
def test_the_program_and_the_runner_take_what_is_written(command: str) -> None:
    pytest.importorskip("google.cloud.storage", reason="Dataflow was NOT tested: google-cloud-storage is not installed")
    words = shlex.split(command.replace("BUCKET", "a-bucket").replace("PROJECT", "a-project"))
    options = command_line().parse_args(words[1 : words.index("--")])
    assert (ROOT / options.recipe).exists()
    store, flags = open_store(options.run_dir), words[words.index("--") + 1 :]
    check.check(runner.target_of(store, runner._options(store, flags)), client_ids=False)


def test_refused_flags_and_messages_are_those_of_the_code() -> None:
    for name in check.REFUSED:
        assert f"--{name}" in TEXT
    assert all(name in TEXT for name in check.SAMPLING)
    code = "".join((ROOT / "pe_beam/runners/dataflow" / f"{part}.py").read_text() for part in ("explain", "runner"))
    code += (ROOT / "pe_beam/transforms/plain.py").read_text()
    joined = re.sub(r'"\s*\n\s*f?"', "", code)
    table = TEXT.partition("| message |")[2].partition("## What")[0]
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(messages) == 7
    for message in messages[:-1]:
        assert message.removesuffix(" …") in joined, message
    assert explain.DataflowError.exit_status == 1
    assert service.SECONDS < 30
