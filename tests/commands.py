"""`pe-beam` in processes of `tests.forks`: imports are most of what a small command takes.

What is said while modules are imported is not seen here; tests/test_console.py starts Python for that.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.forks import Fork


class Command:
    """`python -m pe_beam ARGUMENTS`, started. A `with` waits for its end, as that of `subprocess.Popen` does.

    `before`: Python that the process executes first.
    """

    def __init__(self, *arguments: str, before: str = "") -> None:
        self.arguments = arguments
        self._folder = tempfile.TemporaryDirectory()
        with (
            open(os.devnull) as nothing,  # noqa: PTH123
            self._file("stdout").open("w") as out,
            self._file("stderr").open("w") as err,
        ):
            files = [each.fileno() for each in (nothing, out, err)]
            self._fork = Fork(["-c", _program(arguments, before)], Path.cwd(), files)
        self.pid = self._fork.pid

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._fork.wait()
        self._fork.close()
        self._folder.cleanup()

    def poll(self) -> int | None:
        """The status, or None while it runs; -9 of one that was killed."""
        return self._fork.wait(0)

    def kill(self) -> None:
        """Kills it by SIGKILL, and waits until it is gone."""
        self._fork.kill()

    def communicate(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Waits; an AssertionError after `timeout` seconds, and then it is killed."""
        status = self._fork.wait(timeout)
        if status is None:
            self.kill()
            raise AssertionError(f"{self.arguments} took more than {timeout} s: {self._file('stderr').read_text()}")
        out, err = (self._file(name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(self.arguments, status, out, err)

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, name)


def _program(arguments: tuple[str, ...], before: str) -> str:
    return (
        f"exec({before!r}, {{}})\n"
        "import runpy, sys\n"
        f"sys.argv = {['pe-beam', *arguments]!r}\n"
        "runpy.run_module('pe_beam', run_name='__main__', alter_sys=True)\n"
    )


def run_command(*arguments: str, before: str = "", timeout: float = 580) -> subprocess.CompletedProcess[str]:
    """Runs `python -m pe_beam ARGUMENTS` to its end."""
    with Command(*arguments, before=before) as command:
        return command.communicate(timeout)


def run_with(installed: Path | None, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a folder, with the packages that are installed in another one."""
    place = "" if installed is None else f"sys.path.insert(0, {str(installed)!r})"
    return run_command(*arguments, before=f"import os, sys\nos.chdir({str(cwd)!r})\n{place}")
