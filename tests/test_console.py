"""Ctrl-C in real processes: status 130 and one line from every command; and nothing of Beam's imports on stderr."""

from __future__ import annotations

import logging
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import pe_beam
from pe_beam.cli.main import main
from tests.whole_runs import SMALL, Runs, copied

# Slow where a user would wait: an embedder that sleeps in a thread of Beam's.
SLOW = """
import sys, time
from pe_beam.modalities.image.pixels import Pixels
own = Pixels.embed
def embed(self, records):
    open({flag!r}, "w").close()
    time.sleep(60)
    return own(self, records)
Pixels.embed = embed
"""


@pytest.fixture(scope="module")
def finished(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(runs.finished(SMALL), tmp_path_factory.mktemp("finished") / "run")


def started(arguments: list[str], *, before: str = "", **more: Any) -> subprocess.Popen[str]:
    """`pe-beam` as a user starts it: Ctrl-C is not ignored, even where whoever runs the tests ignores it."""
    command = [sys.executable, "-m", "pe_beam", *arguments]
    if before:
        code = f"import sys, runpy\nfrom pe_beam import console\nconsole.begin('pe-beam: interrupted')\n{before}\n"
        code += f"sys.argv = ['pe-beam', *{arguments!r}]\nfrom pe_beam.cli.main import main\nsys.exit(main())"
        command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        **{"stdout": subprocess.PIPE, **more},
    )


def interrupted(process: subprocess.Popen[str], seconds: float = 50) -> str:  # what is interrupted sleeps for 60
    """Sends Ctrl-C; returns what was said."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == 130, said
    return said


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_an_evaluation_whose_threads_sleep_ends_at_once(finished: Path, tmp_path: Path) -> None:
    flag = tmp_path / "embedding"
    process = started(["evaluate", str(finished)], before=SLOW.format(flag=str(flag)))
    wait_for(flag.exists, process)
    said = interrupted(process)
    assert said.splitlines()[-1] == "pe-beam: interrupted; the same command goes on from here"
    assert "Traceback" not in said


def test_a_run_whose_threads_sleep_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SMALL))
    flag = tmp_path / "embedding"
    arguments = ["run", str(tmp_path / "r.yaml"), "--run-dir", str(tmp_path / "run")]
    process = started(arguments, before=SLOW.format(flag=str(flag)))
    wait_for(flag.exists, process)
    said = interrupted(process).splitlines()
    assert said[-1] == "pe-beam: interrupted; the same command goes on from here"
    assert [line for line in said if "embedding" not in line and "interrupted" not in line] == []


def test_init_at_its_prompt(tmp_path: Path) -> None:
    """Standard input is a terminal, as a user has it."""
    ours, its = pty.openpty()
    out = tmp_path / "recipe.yaml"
    process = started(["init", "--out", str(out)], stdin=its, stdout=its)
    os.close(its)
    assert process.stderr is not None
    assert process.stderr.read(8)  # it asks
    time.sleep(0.2)
    assert interrupted(process).splitlines()[-1].endswith("pe-beam: interrupted")
    assert not out.exists()
    os.close(ours)


@pytest.mark.parametrize("command", ["plan", "status", "privacy", "report", "export", "purge", "evaluate"])
def test_while_a_command_imports(command: str, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SMALL))
    target = str(tmp_path / "r.yaml") if command == "plan" else str(finished)
    more = ["--to", str(tmp_path / "x.csv")] if command == "export" else []
    # An import that takes its time, and turns an interruption into an error of its own, as compiled modules do.
    hook = f"""
import importlib.abc
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith(("pe_beam.driver", "pe_beam.evaluation", "pe_beam.storage")):
            open({str(tmp_path / "importing")!r}, "w").close()
            try:
                time.sleep(60)
            except BaseException:
                raise ImportError("half")
import time
sys.meta_path.insert(0, Slow())
"""
    process = started([command, target, *more], before=hook)
    wait_for((tmp_path / "importing").exists, process)
    said = interrupted(process).splitlines()
    assert len(said) == 1
    assert said[0].startswith("pe-beam: interrupted")
    assert (finished / "private").exists()


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """What does not let go, such as a job that is being cancelled, is left to itself."""
    stubborn = f"""
import time
from pe_beam.driver import status
def hold(*_):
    open({str(tmp_path / "held")!r}, "w").close()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            open({str(tmp_path / "once")!r}, "w").close()
status.status = hold
"""
    process = started(["status", str(tmp_path)], before=stubborn)
    wait_for((tmp_path / "held").exists, process)
    process.send_signal(signal.SIGINT)
    wait_for((tmp_path / "once").exists, process)
    assert interrupted(process).splitlines() == ["pe-beam: interrupted"]


@pytest.mark.parametrize("module", ["pipelines.evaluate", "pipelines.evolve", "pe_beam.runners.flink", "pe_beam"])
def test_modules_own_their_process_before_they_import_beam(module: str, tmp_path: Path) -> None:
    """The interruption comes while the module itself is imported."""
    late = {"pe_beam": "pe_beam.cli", "pe_beam.runners.flink": "pe_beam.runners.flink.install"}.get(
        module, "apache_beam"
    )
    hook = f"""
import importlib.abc, runpy, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {late!r}:
            open({str(tmp_path / "importing")!r}, "w").close()
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = [{module!r}]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", hook],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    wait_for((tmp_path / "importing").exists, process)
    said = interrupted(process)
    assert len(said.splitlines()) == 1, said
    assert "interrupted" in said


@pytest.mark.parametrize("flags", [[], ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]])
def test_nothing_of_beams_imports_is_shown(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SMALL))
    command = [sys.executable, "-m", "pe_beam", "run", str(tmp_path / "r.yaml"), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run([*command, "--", *flags], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "iteration" not in line and "embedding" not in line] == []


def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads any more, as of `| head` that has seen enough."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize(
    ("opened", "status", "said"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), 1, "pe-beam: no space is left on a disk, that of the output"),
        (closed_pipe, 1, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_takes_is_no_trace(
    opened: Callable[[], int], status: int, said: str, unbuffered: str, finished: Path
) -> None:
    """Python wrote what was buffered when it ended, and ended with status 120."""
    handle = opened()
    with started(["status", str(finished)], stdout=handle, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) as it:
        told = it.communicate(timeout=60)[1]
    os.close(handle)
    assert it.returncode == status
    assert told.startswith(said) and told.count("\n") == bool(said)


def test_a_closed_output_is_none(finished: Path) -> None:
    command = f'exec "{sys.executable}" -m pe_beam status "{finished}" >&-'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pe_beam {pe_beam.__version__}\n"


def test_the_library_leaves_logging_to_its_host() -> None:
    code = "import logging, pe_beam, pe_beam.cli, pe_beam.driver.loop; print(logging.root.level, logging.root.disabled)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["30", "False"]


def test_a_job_leaves_all_that_its_host_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Beam's workers alone are not heard while it runs: a trace of theirs may quote a value."""
    from pe_beam.runners.job import Job
    from pe_beam.storage import open_store

    beams, hooks = logging.getLogger("apache_beam.runners.worker"), []

    def build(_: object) -> None:
        logging.getLogger("host").error("mine")
        beams.error("a trace")
        hooks.append(threading.excepthook)

    Job(open_store("memory://quiet"), [])("Nothing", build)
    beams.error("after")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["mine", "after"]
    assert hooks == [threading.excepthook]


def test_of_two_jobs_at_once_the_last_gives_beam_its_log_back(caplog: pytest.LogCaptureFixture) -> None:
    from pe_beam.runners.job import Job
    from pe_beam.storage import open_store

    both = threading.Barrier(2)
    first, second = threading.Event(), threading.Event()

    def job(number: int) -> None:
        def build(_: object) -> None:
            both.wait(30)
            (first if number else second).wait(30)
            logging.getLogger("apache_beam").error("a trace")

        Job(open_store(f"memory://quiet-{number}"), [])("Nothing", build)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread, event in zip(threads, (second, first), strict=True):
        event.set()
        thread.join()
    logging.getLogger("apache_beam").error("after")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == ["after"]
