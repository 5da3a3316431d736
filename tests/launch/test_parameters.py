"""The table of a program's parameters, as a parser, beside Beam's own flags."""

from __future__ import annotations

import pytest

from pe_beam.errors import InputError, LockedError
from pe_beam.launch.flex import PROGRAMS, program_of
from pe_beam.launch.parameters import Kind, Parameter, Program

TABLE = Program(
    name="some",
    title="Some",
    text="Does something.",
    parameters=(
        Parameter(name="where", label="Where", text="a place", kind=Kind.FOLDER, pattern="gs://.+"),
        Parameter(name="times", label="Times", text="a number", kind=Kind.COUNT, optional=True, default="3"),
        Parameter(name="how", label="How", text="a way", kind=Kind.CHOICE, optional=True, choices=("a", "b")),
        Parameter(name="loud", label="Loud", text="a switch", kind=Kind.SWITCH, optional=True),
    ),
)
LAUNCHED = ["--template_location=gs://b/job_object", "--runner=DataflowRunner"]


def test_values_are_read_as_their_kind_and_beams_flags_are_passed_on() -> None:
    options, rest = TABLE.parser().parse_known_args(["--where=x", "--runner=FnApiRunner", "--ho=a", "--loud"])
    assert vars(options) == {"where": "x", "times": 3, "how": None, "loud": True}
    assert rest == ["--runner=FnApiRunner", "--ho=a"], "an abbreviation may be a flag of Beam's"


@pytest.mark.parametrize(("given", "found"), [("true", True), ("False", False)])
def test_a_switch_takes_a_value_as_services_pass_it(given: str, found: bool) -> None:
    assert TABLE.parser().parse_known_args(["--where=x", f"--loud={given}"])[0].loud is found


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--where=x", "--times=-1"],
        ["--where=x", "--times=1e2"],
        ["--where=x", "--how=c"],
        ["--where=x", "--loud=1"],
    ],
    ids=["missing", "negative", "no number", "no choice", "no switch"],
)
def test_wrong_values_end_with_status_2_and_say_what_is_allowed(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        TABLE.run(lambda *_: None, wrong)
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].count("--") == 1


@pytest.mark.parametrize("flag", ["--lou", "--loud_", "--time=3"])
def test_a_misspelt_parameter_is_not_left_to_beam(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    assert TABLE.run(lambda options, _: seen.append(options.where), ["--where=x", "--times=2", flag]) == 2
    assert not seen
    assert capsys.readouterr().err.startswith(f"some: {flag.partition('=')[0]} is not known; did you mean --")


def test_a_launcher_refuses_what_no_worker_would_see(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    assert TABLE.run(lambda options, _: seen.append(options.where), ["--where=/tmp/x"]) == 0
    assert TABLE.run(lambda options, _: seen.append(options.where), ["--where=gs://b/x", *LAUNCHED]) == 0
    assert TABLE.run(lambda options, _: seen.append(options.where), ["--where=/tmp/x", *LAUNCHED]) == 2
    assert seen == ["/tmp/x", "gs://b/x"]
    assert capsys.readouterr().err == "some: --where=/tmp/x: a template wants a value that matches gs://.+\n"


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("no"), 2), (LockedError("no"), 1), (KeyboardInterrupt(), 130)]
)
def test_statuses_are_those_of_the_command_line(error: BaseException, status: int, capsys: object) -> None:
    def body(*_: object) -> None:
        raise error

    assert TABLE.run(body, ["--where=x"]) == status


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_has_a_table_of_its_own_name(name: str) -> None:
    program = program_of(name)
    names = [parameter.name for parameter in program.parameters]
    assert program.name == name
    assert len(names) == len(set(names))
    assert "run_dir" in names
