"""Starts scripts in forks of one interpreter that has imported what most of them need: imports are paid for once.

Each script still has a process, a folder, arguments, output and an exit status of its own, and sees `sys.path` and
`__main__` as `python SCRIPT` has them. It is a process apart from the tests, for theirs have threads, which no fork
survives.

`python -m tests.scripts`, then a line of JSON a script on stdin: folder and command. The answer is its status.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

SHARED = (
    "apache_beam",
    "dp_accounting.pld.privacy_loss_distribution",
    "matplotlib.figure",
    "pe_beam.driver.loop",
    "pe_beam.evaluation.evaluate",
    "pe_beam.report.build",
    "scipy.stats",
    "sentence_transformers",
    "sklearn.linear_model",
    "sklearn.svm",
    "transformers",
)
LONGEST = 300  # seconds


class Scripts:
    """The interpreter, for the length of a `with`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __enter__(self) -> Scripts:
        command = [sys.executable, "-m", "tests.scripts"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=self._environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of stdin ends it

    def run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Runs a script and its arguments in a folder, which then holds `stdout` and `stderr`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), command]) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        out, err = ((folder / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(command, status, out, err)


def _become(folder: str, command: list[str]) -> NoReturn:
    """Makes this process, a fork, one that was started as `python COMMAND` in a folder, and runs it."""
    os.chdir(folder)
    with open(os.devnull) as nothing, open("stdout", "w") as out, open("stderr", "w") as err:  # noqa: PTH123
        for ours, file in enumerate((nothing, out, err)):
            os.dup2(file.fileno(), ours)
    signal.alarm(LONGEST)
    sys.argv = list(command)
    sys.path[0] = str(Path(command[0]).parent)
    status = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as asked:
        status = _status(asked.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    _leave(status)


def _status(code: object) -> int:
    """The exit status that Python makes of what `sys.exit` was given."""
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


def _leave(status: int) -> NoReturn:
    """Ends as Python does, but for the taking apart of every module: in a fork of this size that takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Answers until stdin ends. An answer is written to what was stdout: a script has another one."""
    for name in SHARED:
        try:
            __import__(name)
        except ImportError:  # not installed: a script that needs it will say so
            continue
    place = list(sys.path)
    gc.freeze()  # a fork that looks for garbage would copy all that is here
    with os.fdopen(os.dup(1), "w") as answers:
        for line in sys.stdin:
            child = os.fork()
            if child == 0:
                sys.path[:] = place
                _become(*json.loads(line))
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
