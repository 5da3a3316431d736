"""`pe-beam` in processes forked from one that has done the imports: they are most of what a small command takes.

A process of its own as with `python -m pe_beam`: it can be killed, and has a status, stdout and stderr. What is said
while modules are imported is not seen here; tests/test_console.py starts Python for that.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PRELOADED = [
    "apache_beam",
    "dp_accounting.pld.accountant",
    "matplotlib.figure",
    "pe_beam.cli.main",
    "pe_beam.engine.graphs.iteration",
    "pe_beam.evaluation.evaluate",
    "pe_beam.modalities.text.llm",
    "pe_beam.modalities.text.openai_client",
    "pe_beam.report.build",
    "pe_beam.runners.job",
    "openai.resources.chat.completions",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.feature_extraction.text",
]


class Command:
    """`python -m pe_beam ARGUMENTS`, started. A `with` waits for its end, as that of `subprocess.Popen` does.

    `before`: Python that the process executes first.
    """

    def __init__(self, *arguments: str, before: str = "") -> None:
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=_become, args=(arguments, self._folder.name, before))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()
        self._folder.cleanup()

    def poll(self) -> int | None:
        """The status, or None while it runs; -9 of one that was killed."""
        return self._process.exitcode

    def kill(self) -> None:
        """Kills it by SIGKILL, and waits until it is gone."""
        self._process.kill()
        self._process.join()

    def communicate(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Waits; an AssertionError after `timeout` seconds, and then it is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(f"{self.arguments} took more than {timeout} s: {self._said('stderr')}")
        return subprocess.CompletedProcess(
            self.arguments, self._process.exitcode, self._said("stdout"), self._said("stderr")
        )

    def _said(self, name: str) -> str:
        path = Path(self._folder.name, name)
        return path.read_text() if path.exists() else ""


def run_command(*arguments: str, before: str = "", timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs `python -m pe_beam ARGUMENTS` to its end."""
    with Command(*arguments, before=before) as command:
        return command.communicate(timeout)


def run_with(installed: Path | None, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a folder, with the packages that are installed in another one."""
    place = "" if installed is None else f"sys.path.insert(0, {str(installed)!r})"
    return run_command(*arguments, before=f"import os, sys\nos.chdir({str(cwd)!r})\n{place}")


def _become(arguments: tuple[str, ...], folder: str, before: str) -> None:
    """Makes this fork a process as `python -m pe_beam` starts one."""
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(Path(folder, name), "w") as file:  # noqa: PTH123
            os.dup2(file.fileno(), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["pe-beam", *arguments]
    exec(before, {})
    runpy.run_module("pe_beam", run_name="__main__", alter_sys=True)
