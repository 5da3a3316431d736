"""What is built holds what it needs: the wheel, alone in an empty environment, runs a shipped recipe.

And the image of Dataflow, whose steps are replayed in the same environment. What Beam makes of `--setup_file` is in
tests/launch/test_docs.py.
"""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import jinja2
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris

from tests.dockerfiles import Image, replay
from tests.launch.commands import commands

ROOT = Path(__file__).parents[1]
DATAFLOW = ROOT / "templates/dataflow"
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not UV.exists():
        pytest.skip("the wheel was NOT tested: no uv beside this Python (make test brings it)")
    folder = tmp_path_factory.mktemp("dist")
    path = f"{UV.parent}:{os.environ['PATH']}"
    _run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, ROOT, more={"PATH": path})
    return folder


def _run(
    *command: object, cwd: Path | None = None, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    }
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **(more or {})},
        timeout=600,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_wheel_and_sdist_hold_templates_pipelines_and_recipes(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"pipelines/evolve.py", "pe_beam/templates/recipes/digits.yaml", "pe_beam/templates/flink/pom.xml"} <= names
    assert {"pe_beam/report/page/page.html", "pe_beam/watch/page/watch.js", "pe_beam/py.typed"} <= names
    shipped = {f"pe_beam/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*") if path.is_file()}
    assert shipped <= names
    with tarfile.open(sdist) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert {"pipelines/evolve.py", "templates/recipes/digits.yaml", "templates/recipe.schema.json"} <= inside


def test_twine_likes_both(built: Path) -> None:
    done = _run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *sorted(built.iterdir()))
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_says_its_extras_and_what_it_is(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        told = email.message_from_bytes(file.read(name))
        assert not any(name.startswith(("tests/", "docs/", "benchmarks/")) for name in file.namelist())
    extras = (ROOT / "setup.py").read_text().partition("extras_require=")[2].partition("entry_points=")[0]
    wanted = set(re.findall(r'^        "(\w+)": \[', extras, re.MULTILINE))
    assert {"gcp", "table", "dev"} <= wanted == set(told.get_all("Provides-Extra"))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert told["Version"] == cited["version"] and told["License"] == cited["license"] == "Apache-2.0"
    for requirement in told.get_all("Requires-Dist"):
        assert ">=" in requirement or "==" in requirement or requirement.startswith("pe_beam["), requirement
        assert "@" not in requirement, "an index refuses a requirement with an address"


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what it requires, and no extra."""
    (wheel,), venv = built.glob("*.whl"), tmp_path_factory.mktemp("environment") / "venv"
    _run(UV, "venv", "--quiet", "--python", sys.executable, venv)
    _run(UV, "pip", "install", "--quiet", "--python", venv / "bin/python", wheel)
    _lend_compiled(venv)
    return venv


def _lend_compiled(venv: Path) -> None:
    """Gives an environment what this Python has compiled of the same files: uv links those of both to its cache.

    Else each new environment compiles all that it imports, which takes longer than what is tested in it.
    """
    own = Path(sysconfig.get_path("purelib"))
    theirs = venv / own.relative_to(sys.prefix)
    for compiled in own.rglob("__pycache__/*.pyc"):
        source = compiled.parents[1] / f"{compiled.name.partition('.')[0]}.py"
        place = theirs / compiled.relative_to(own)
        same = theirs / source.relative_to(own)
        if source.exists() and same.exists() and same.samefile(source) and not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.hardlink_to(compiled)


def test_it_runs_the_digits_recipe_in_an_empty_environment(built: Path, environment: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    small = ["--set", "evolution.iterations=1", "--set", "evolution.samples=100"]
    _run(environment / "bin/pe-beam", "run", "digits", "--run-dir", tmp_path / "run", *small, cwd=tmp_path)
    assert (tmp_path / "run/release/report.html").exists()
    python = environment / "bin/python"
    said = _run(python, "-c", "import pe_beam; print(pe_beam.__version__)", cwd=tmp_path).stdout.strip()
    assert said == wheel.name.split("-")[1]


USER = """\
import pe_beam
from pe_beam.callbacks import tensorboard

recipe: pe_beam.Recipe = pe_beam.load_recipe("digits", ["evolution.iterations=1"])
epsilons: list[float] = pe_beam.plan(recipe).epsilons


def follow(release: pe_beam.Release) -> None:
    print(release.iteration, release.samples().num_rows)


run = pe_beam.evolve(recipe, "runs/typed", on_iteration=[follow, tensorboard("logs")])
if run.privacy is not None:
    epsilon: float = run.privacy["epsilon"]
run.export("my-dataset", form="huggingface")
"""


def test_mypy_takes_a_users_script_and_sees_a_wrong_one(environment: Path, tmp_path: Path) -> None:
    """Against the installed package: `py.typed` is found, and nothing that is handed on is Any."""
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(f"{USER}run.export(3)\nrun.privacy.no_such_thing\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", environment / "bin/python"]
    mypy += ["--cache-dir", os.devnull, "right.py", "wrong.py"]  # a cache that nobody reads takes a tenth
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(mypy, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False, timeout=900)
    found = done.stdout.splitlines()
    assert not [line for line in found if line.startswith("right.py")], done.stdout
    assert sorted(re.findall(r"^wrong.py:\d+: error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)) == [
        "arg-type",
        "union-attr",
        "union-attr",
    ], done.stdout


def test_it_runs_by_one_line(built: Path, tmp_path: Path) -> None:
    """As README has it, `uvx --from`: in an environment that is made for the command and kept by nobody."""
    (wheel,) = built.glob("*.whl")
    done = _run(
        UV, "tool", "run", "--python", sys.executable, "--from", wheel, "pe-beam", "export", "--help", cwd=tmp_path
    )
    assert "--as FORM" in done.stdout


@pytest.fixture(scope="module")
def image(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Dataflow's image, with Beam YAML. Its steps add two extras to the environment, and replace the package."""
    root = tmp_path_factory.mktemp("image") / "root"
    image = replay(DATAFLOW / "Dockerfile", ROOT, root, environment, PIPELINE="embed", EXTRAS="gcp,yaml")
    _lend_compiled(environment)
    return image


def test_the_image_of_dataflow_has_what_its_steps_say(environment: Path, image: Image, tmp_path: Path) -> None:
    python = environment / "bin/python"
    known = "import apache_beam, google.cloud.dataflow, google.cloud.storage; print(apache_beam.__version__)"
    version = _run(python, "-c", known, cwd=tmp_path).stdout.strip()
    assert image.base == f"apache/beam_python3.11_sdk:{version}", "image, launcher and workers have one Beam"
    assert image.copied == ["/opt/google/dataflow/python_template_launcher"]
    assert image.environment == {"FLEX_TEMPLATE_PYTHON_PY_FILE": "/template/main.py", "PE_BEAM_PIPELINE": "embed"}
    flags = ["--recipe=digits", f"--run_dir={tmp_path / 'run'}", "--runner=FnApiRunner", "--no_wait_until_finish"]
    _run(python, image.root / "template/main.py", *flags, cwd=tmp_path, more=image.environment)
    assert (tmp_path / "run/private/embeddings/index.json").exists()


def test_beam_yaml_runs_the_commands_of_the_page(environment: Path, image: Image) -> None:
    """Here and not in the environment of the tests: it needs pandas, which every import of Beam would then load."""
    folder, path = image.root / "opt/pe_beam", f"{environment}/bin:{os.environ['PATH']}"
    made, run = [each for each in commands(ROOT / "docs/cloud.md") if "iris.csv" in each]
    for command in (made, run):
        _run("sh", "-c", command, cwd=folder, more={"PATH": path})
    (file,) = (folder / "flowers").glob("counts.json*")
    found = sorted(map(json.loads, file.read_text().splitlines()), key=lambda row: row["position"])
    template = jinja2.Template((folder / "templates/yaml/flowers.yaml").read_text())
    steps = yaml.safe_load(template.render(store="", data="", output=""))["pipeline"]["transforms"]
    declared = np.array([list(row.values()) for row in steps[2]["config"]["candidates"]])
    nearest = ((load_iris().data[:, None] - declared) ** 2).sum(axis=2).argmin(axis=1)
    noise = np.array([row["noisy_votes"] for row in found]) - np.bincount(nearest, minlength=4)
    assert [row["name"] for row in found] == ["setosa", "versicolor", "virginica", "none of these"]
    line = json.loads((folder / "flowers/flowers/ledger.jsonl").read_text())
    assert (noise == np.round(noise)).all() and noise.any()
    assert np.abs(noise).max() < 6 * line["sigma"], "false alarms: 4 x 2e-9"
    assert not (folder / "flowers/flowers/private/secret.key").exists()
