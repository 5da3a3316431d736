"""program: parameters out, pictures in; and programs that hang, die, lie or talk too much."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pe_beam.contracts.generator import Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.simulators import child
from pe_beam.modalities.image.simulators.program import Program, ProgramOptions
from pe_beam.testing import check_generator

# A renderer in a few lines: a square of one gray, as PPM. `{before}` and `{answer}` are put in by the tests.
RENDERER = """
import base64, json, os, sys, time
tries, FOLDER = sys.argv[1] + "/tries", os.environ["PE_BEAM_FOLDER"] + "/"
for line in sys.stdin:
    asked = json.loads(line)
    with open(tries, "a") as file:
        file.write(line)
    count = len(open(tries).readlines())
    gray = int(asked["parameters"]["light"] * 255)
    side = asked["parameters"]["side"]
    picture = b"P5 %d %d 255\\n" % (side, side) + bytes([gray]) * side * side
    name = "%d.pgm" % asked["id"]
    def save():
        open(FOLDER + name, "wb").write(picture)
    def hang(said=""):
        open(sys.argv[1] + "/hangs", "w").close()
        sys.stdout.write(said); sys.stdout.flush(); time.sleep(600)
    {before}
    save()
    print(json.dumps({answer}), flush=True)
"""
PARAMETERS = {"light": {"range": [0, 1]}, "side": {"range": [4, 8], "integer": True}, "kind": {"values": ["a", "b"]}}
FILE = '{"id": asked["id"], "file": name}'


def _rngs(count, purpose="test"):
    return [keyed_rng(3, 1, i, purpose) for i in range(count)]


@pytest.fixture
def program(tmp_path):
    def made(before="pass", answer=FILE, **options):
        code = RENDERER.replace("{before}", before).replace("{answer}", answer)
        given = {"command": [sys.executable, "-S", "-c", code, str(tmp_path)], "parameters": PARAMETERS, "timeout": 20}
        return Program(ProgramOptions.model_validate(given | options), labels=["x"])

    return made


@pytest.fixture(autouse=True)
def _a_time_limit_begins_when_the_program_hangs(monkeypatch, tmp_path):
    """How long Python takes to start, or to answer, says how busy the machine is."""
    real, flag = child.Child._line, tmp_path / "hangs"

    def line(self, deadline):
        began = time.monotonic()
        while not flag.exists() and not select.select([self._process.stdout], [], [], 0.01)[0]:
            assert time.monotonic() - began < 120
        flag.unlink(missing_ok=True)
        return real(self, deadline + time.monotonic() - began)

    monkeypatch.setattr(child.Child, "_line", line)


def _asked(tmp_path):
    return [json.loads(line) for line in (tmp_path / "tries").read_text().splitlines()]


def _random(generator, count=6):
    return generator.random(["x"] * count, _rngs(count)).append_column("label", pa.array(["x"] * count))


@pytest.mark.parametrize(
    "answer", [FILE, '{"id": asked["id"], "image": base64.b64encode(picture).decode()}', '{**asked, "file": name}']
)
def test_it_keeps_the_contract(program, answer):
    check_generator(program(answer=answer), MODALITY, labels=["x"])


def test_a_program_is_started_once_and_gets_label_seed_and_parameters(program, tmp_path):
    generator = program("open(sys.argv[1] + '/pids', 'a').write(str(os.getpid()) + '\\n')")
    made = _random(generator)
    generator.vary(made, Step(iteration=1, iterations=1, degree=0.5), _rngs(6, "vary"))
    assert len(set((tmp_path / "pids").read_text().split())) == 1
    asked = _asked(tmp_path)
    assert [each["id"] for each in asked] == list(range(1, 13))
    for each, text, data in zip(asked, made["state"].to_pylist(), made["image"].to_pylist(), strict=False):
        state = json.loads(text)
        assert each == {"id": each["id"], "label": "x", **state}
        pixels = np.asarray(decode_image(data, mode="RGB"))
        assert pixels.shape == (state["parameters"]["side"],) * 2 + (3,)
        assert (pixels == int(state["parameters"]["light"] * 255)).all()
    assert len({each["seed"] for each in asked[:6]}) == 6


def test_variations_move_by_their_share_and_keep_the_seed_at_degree_zero(program):
    generator = program(parameters={**PARAMETERS, "light": {"range": [0, 1], "move": [0.1, 0]}}, seed_move=[1, 0])
    parents = _random(generator, 30)
    before = [json.loads(text) for text in parents["state"].to_pylist()]
    still = generator.vary(parents, Step(iteration=2, iterations=2, degree=0.0), _rngs(30, "vary"))
    assert still["image"] == parents["image"] and still["state"] == parents["state"]
    varied = generator.vary(parents, Step(iteration=1, iterations=2, degree=1.0), _rngs(30, "vary"))
    after = [json.loads(text) for text in varied["state"].to_pylist()]
    moved = [abs(a["parameters"]["light"] - b["parameters"]["light"]) for a, b in zip(before, after, strict=True)]
    assert 0.05 < max(moved) <= 0.1
    assert {state["parameters"]["side"] for state in after} <= set(range(4, 9))
    assert all(isinstance(state["parameters"]["side"], int) for state in after)
    assert 5 < sum(a["parameters"]["kind"] != b["parameters"]["kind"] for a, b in zip(before, after, strict=True)) < 25
    assert all(a["seed"] != b["seed"] for a, b in zip(before, after, strict=True))


def test_pictures_are_made_square_and_gray_if_wanted(program):
    image = decode_image(_random(program(side=3, mode="gray"))["image"][0].as_py(), mode="L")
    assert image.size == (3, 3)


FAULTS = {
    "dies": ("sys.exit(3)", FILE, "the program ended before it answered"),
    "dies after answering": ("save(); print(json.dumps(" + FILE + ")); sys.exit()", FILE, None),
    "hangs": ("hang()", FILE, "did not answer within generator.timeout"),
    "says nothing and closes": ("os.close(1); time.sleep(600)", FILE, "ended before it answered"),
    "answers half a line": ("hang('{\"id\"')", FILE, "did not answer"),
    "talks": ("print('rendering', flush=True)", FILE, "an answer is not a JSON object on a line"),
    "a list": ("pass", "[1]", "an answer is not a JSON object on a line"),
    "nested": ("print('[' * 200000, flush=True)", FILE, "an answer is not a JSON object on a line"),
    "another id": ("pass", '{"id": 77, "file": name}', "another id than the request"),
    "no file": ("pass", '{"id": asked["id"]}', "neither a file nor an image"),
    "both": ("pass", '{"id": asked["id"], "file": name, "image": ""}', "neither a file nor an image, or both"),
    "missing": ("pass", '{"id": asked["id"], "file": "gone.png"}', "names a file that is not there"),
    "a name with a null": ("pass", '{"id": asked["id"], "file": "a\\0b"}', "names a file that is not there"),
    "a folder": ("pass", '{"id": asked["id"], "file": "/tmp"}', "names what is no file"),
    "a device": ("pass", '{"id": asked["id"], "file": "/dev/zero"}', "names what is no file"),
    "a pipe": ("name = 'p'; os.mkfifo(FOLDER + name); save = lambda: 0", FILE, "what is no file"),
    "no image": ("picture = b'GIF89a'", FILE, "a picture of the program: image that cannot be read"),
    "no base64": ("pass", '{"id": asked["id"], "image": "%%%"}', "not base64"),
    "an error": ("pass", '{"id": asked["id"], "error": "out of polygons"}', "the program answered with an error"),
    "too large": ("open(FOLDER + name, 'wb').truncate(1 << 40); save = lambda: 0", FILE, "more than 0 MB"),
    "floods": ("[sys.stdout.write('x' * 65536) for _ in range(200)]", FILE, "an answer of more than"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_after_bounded_tries(program, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(child, "MAX_BYTES", 1 << 19)
    before, answer, message = FAULTS[fault]
    generator = program(
        before.replace("{once}", "pass"), answer, restarts=1, timeout=0.5 if "did" in str(message) else 20
    )
    if message is None:
        assert _random(generator, 3).num_rows == 3
        return
    with pytest.raises(StageError, match=f"generator.command: no picture after 2 tries: .*{message}") as caught:
        _random(generator, 3)
    assert "polygons" not in str(caught.value)
    assert len(_asked(tmp_path)) == 2


@pytest.mark.parametrize("fault", ["dies", "hangs", "talks", "missing", "no image", "another id"])
def test_a_picture_is_asked_for_again_by_the_same_seed(program, tmp_path, fault):
    """The program fails at its second and fifth request of all, and answers well when it is started again."""
    before, answer, message = FAULTS[fault]
    before = "bad = count in (2, 5)\n    if bad: " + before if before != "pass" else "bad = count in (2, 5)"
    answer = FILE if answer == FILE else f"{answer} if bad else {FILE}"
    timeout = 0.5 if "did" in message else 20
    failing = _random(program(before, answer, timeout=timeout))
    asked = _asked(tmp_path)
    assert len(asked) == 8
    for first, second in ((1, 2), (4, 5)):
        assert {**asked[first], "id": 0} == {**asked[second], "id": 0}
    (tmp_path / "tries").unlink()
    assert failing == _random(program())


def test_a_hanging_program_goes_with_all_that_it_started(program, tmp_path):
    before = (
        "import subprocess; sleeper = subprocess.Popen(['sleep', '600']); "
        "open(sys.argv[1] + '/sleeper', 'w').write(str(sleeper.pid)); hang()"
    )
    with pytest.raises(StageError, match="after 1 try"):
        _random(program(before, restarts=0, timeout=0.5), 1)
    pid = int((tmp_path / "sleeper").read_text())
    for _ in range(300):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    raise AssertionError("what the program started lives on")


def test_nothing_of_the_environment_but_what_is_listed(program, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    _random(program("json.dump(dict(os.environ), open(sys.argv[1] + '/env', 'w'))", environment={"SCENE": "9"}), 1)
    seen = json.loads((tmp_path / "env").read_text())
    assert seen["SCENE"] == "9" and "PATH" in seen
    assert set(seen) <= {*child.PASSED, "SCENE", child.FOLDER}


def test_what_it_says_on_stderr_is_not_heard_and_files_are_used_up(program, tmp_path, capfd):
    listing = "open(sys.argv[1] + '/files', 'a').write(str(os.listdir(FOLDER)))"
    before = f"print('heard', file=sys.stderr); {listing}"
    generator = program(before)
    _random(generator, 3)
    assert (tmp_path / "files").read_text() == "[]" * 3
    folder = generator._child.folder
    assert folder.is_dir()
    generator._stop()
    assert not folder.exists()
    assert capfd.readouterr() == ("", "")


def test_a_file_elsewhere_is_left_where_it_is(program, tmp_path):
    before = "name = sys.argv[1] + '/mine.pgm'; open(name, 'wb').write(picture); save = lambda: 0"
    assert _random(program(before), 2).num_rows == 2
    assert (tmp_path / "mine.pgm").exists()


def test_a_program_that_is_not_there_or_cannot_make_one_is_found_before_the_run(program):
    with pytest.raises(RecipeError, match=r"generator\.command: 'no-such-program' is no program"):
        program(command=["no-such-program"]).ready()
    with pytest.raises(StageError, match="cannot be started"):
        _random(program(command=["/dev/null"]))
    with pytest.raises(StageError, match=r"ended before it answered; .* give it a request by hand"):
        program(command=["true"], restarts=0).ready()


def test_a_fork_starts_its_own(program):
    generator = program()
    whole = _random(generator)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        same = generator.random(["x"] * 6, _rngs(6))["image"] == whole["image"]
        generator._stop()
        os.write(writer, b"same" if same else b"other")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 9) == b"same"
    assert _random(generator) == whole


@pytest.mark.parametrize(
    "options",
    [
        {"command": []},
        {"parameters": {}},
        {"parameters": {"a": {"range": [2, 1]}}},
        {"parameters": {"a": {"range": [0.5, 1], "integer": True}}},
        {"parameters": {"a": {"values": []}}},
        {"parameters": {"a": {"range": [0, 1], "values": [1]}}},
        {"timeout": 0},
    ],
)
def test_wrong_options_are_refused(program, options):
    with pytest.raises(ValidationError):
        program(**options)


@pytest.mark.parametrize("options", [{"seed_move": 2}, {"parameters": {"a": {"values": [1], "move": [1, 1]}}}])
def test_wrong_schedules_are_refused(program, options):
    with pytest.raises(RecipeError, match=r"generator\.(seed_move|parameters\.a\.move)"):
        program(**options).attach(Surroundings(iterations=3, service=Service(), folder=None))


def test_a_run_that_stops_in_the_middle_goes_on_from_its_chunks(program, tmp_path, small):
    """The program dies for good in the second chunk of iteration 1; repaired, it is asked for that chunk and on."""
    from pe_beam.driver.loop import evolve
    from pe_beam.errors import PeBeamError
    from pe_beam.recipe.loading import parse_recipe

    dies = "os.path.exists(sys.argv[1] + '/repaired') or count <= 1 + 40 + 35 or sys.exit(1)"
    small["generator"] = {"name": "program", **program(dies, restarts=1)._options.model_dump()}
    recipe = parse_recipe(small)
    with pytest.raises(PeBeamError, match=r"generator\.command: no picture after 2 tries"):
        evolve(recipe, tmp_path / "run")
    (tmp_path / "repaired").touch()
    (tmp_path / "tries").unlink()
    evolve(recipe, tmp_path / "run")
    assert (tmp_path / "run/release/samples.parquet").exists()
    assert len(_asked(tmp_path)) in (1 + 8 + 40, 1 + 32 + 40)  # a trial, the chunk that was missing, iteration 2
