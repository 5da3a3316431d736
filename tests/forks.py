"""A Python whose processes are forks of one that has imported what most need: imports are paid for once in a session.

A process still has a folder, arguments, an environment, input, output and an exit status of its own, can be killed, and
sees `sys.path` and `__main__` as those of Python have them. The interpreter is a process apart from the tests, for
theirs have threads, which no fork survives; workers of xdist share one. In forks `sys.executable` is this Python too:
what a script starts is forked. What is said while modules are imported is not seen here.

`python -m tests.forks FOLDER OWNER` is the interpreter. It ends when the process OWNER does.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

SHARED = (
    "apache_beam",
    "apache_beam.io.gcp.gcsio",
    "dp_accounting.pld.accountant",
    "dp_accounting.pld.privacy_loss_distribution",
    "google.cloud.dataflow",
    "google.cloud.storage",
    "matplotlib.figure",
    "openai.resources.chat.completions",
    "pe_beam.cli.main",
    "pe_beam.driver.loop",
    "pe_beam.engine.graphs.iteration",
    "pe_beam.evaluation.evaluate",
    "pe_beam.modalities.text.llm",
    "pe_beam.modalities.text.openai_client",
    "pe_beam.report.build",
    "pe_beam.runners.job",
    "scipy.stats",
    "sentence_transformers",
    "sklearn.datasets",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.svm",
    "transformers",
)
LONGEST = 600  # seconds
ROOT = Path(__file__).parents[1]

# What `python` is. If it is killed, the fork is. Flags of Python, and other checkouts, are for the real Python.
_PYTHON = """#!{real} -IS
import json, os, signal, socket, sys
words, path = sys.argv[1:], os.environ.get("PYTHONPATH", "").split(os.pathsep)
package = next((each for each in path if os.path.isdir(os.path.join(each, "pe_beam"))), {root!r})
if not words or package != {root!r} or (words[0].startswith("-") and words[0] not in ("-m", "-c")):
    os.execv({real!r}, [{real!r}, *words])
line = socket.socket(socket.AF_UNIX)
line.connect({place!r})
asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(line, [len(asked).to_bytes(8, "big")], [0, 1, 2])
line.sendall(asked)
said = line.makefile()
pid = int(said.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
status = int(said.readline() or 1)
if status < 0:
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(status)
"""


class Fork:
    """A process that runs `python WORDS`.

    Attributes:
      pid: its number.
    """

    def __init__(self, words: Sequence[str], folder: Path, files: Sequence[int]) -> None:
        """Starts it in a folder, with this process's environment. `files`: its stdin, stdout and stderr."""
        asked = json.dumps([list(words), str(folder), dict(os.environ)]).encode()
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(_interpreter() / "asked"))
        socket.send_fds(self._line, [len(asked).to_bytes(8, "big")], list(files))
        self._line.sendall(asked)
        self._said = b""
        self._hear(1, None)
        self.pid = int(self._said.split()[0])

    def wait(self, seconds: float | None = None) -> int | None:
        """Waits for its end. Returns the status (that of a signal is negative), or None if it still runs."""
        self._hear(2, seconds)
        said = self._said.split()
        return int(said[1]) if len(said) > 1 else None

    def kill(self) -> None:
        """Kills it by SIGKILL, and waits until it is gone."""
        if self.wait(0) is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """Ends it if it still runs."""
        self._line.close()

    def _hear(self, lines: int, seconds: float | None) -> None:
        while self._said.count(b"\n") < lines and select.select([self._line], [], [], seconds)[0]:
            heard = self._line.recv(64)
            assert heard, "the interpreter of tests/forks.py has ended"
            self._said += heard


def python() -> Path:
    """A program that takes what Python takes, and runs it in a fork."""
    return _interpreter() / "python"


@functools.cache
def _interpreter() -> Path:
    """The interpreter's folder. It is started by the first that asks, for all workers of a session."""
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(tempfile.gettempdir(), f"pe_beam-forks-{os.getuid()}-{owner}")
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(folder / "asked"):
            _start(folder, owner)
    return folder


def _answers(place: Path) -> bool:
    """Whether an interpreter is there. One that was killed leaves its folder, and another session may have its owner's
    number.
    """
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(place))
        except (FileNotFoundError, ConnectionRefusedError):
            place.unlink(missing_ok=True)
            return False
    return True


def _start(folder: Path, owner: int) -> None:
    place, program = str(folder / "asked"), folder / "python"
    program.write_text(_PYTHON.format(real=sys.executable, root=str(ROOT), place=place))
    program.chmod(0o755)
    # Where this is set, each process compiles what it imports anew.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", str(folder), str(owner)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=kept,
        start_new_session=True,
    )
    assert started.stdout is not None
    with started.stdout as said:
        assert said.readline() == b"ready\n", "the interpreter of tests/forks.py does not start"


class _Running:
    """The forks that run, by the line on which each was asked for."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._running: dict[socket.socket, tuple[int, int]] = {}

    def serve(self, owner: int) -> None:
        """Answers until the owner ends."""
        while True:
            ends = {end: line for line, (_, end) in self._running.items()}
            ready, _, _ = select.select([owner, self._listener, *self._running, *ends], [], [])
            if owner in ready:
                return
            if self._listener in ready:
                self._fork(self._listener.accept()[0])
            for end in [each for each in ready if each in ends]:
                self._ended(ends[end])
            for line in [each for each in ready if each in self._running]:
                os.kill(self._running[line][0], signal.SIGKILL)  # who asked is gone
                self._ended(line)

    def _fork(self, line: socket.socket) -> None:
        files: list[int] = []
        try:
            header, files, _, _ = socket.recv_fds(line, 8, 3)
            asked = json.loads(line.makefile("rb").read(int.from_bytes(header, "big")))
        except (OSError, ValueError):  # who asks is gone already, or only looked whether there is an answer
            line.close()
            for file in files:
                os.close(file)
            return
        child = os.fork()
        if child == 0:
            for each in (line, self._listener, *self._running):
                each.close()
            _become(*asked, files)
        for file in files:
            os.close(file)
        self._running[line] = child, os.pidfd_open(child)
        _say(line, child)

    def _ended(self, line: socket.socket) -> None:
        child, end = self._running.pop(line)
        _, status = os.waitpid(child, 0)
        os.close(end)
        _say(line, os.waitstatus_to_exitcode(status))
        line.close()


def _say(line: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        line.sendall(f"{number}\n".encode())


def _become(words: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """Makes this process, a fork, one that was started as `python WORDS` in a folder, and runs it."""
    os.chdir(folder)
    for ours, file in enumerate(files):
        os.dup2(file, ours)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(LONGEST)
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [place for place in path if place and place not in sys.path]
    status = 0
    try:
        _run(words)
    except SystemExit as asked:
        status = _status(asked.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    _leave(status)


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = list(words), str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")


def _status(code: Any) -> int:
    """The exit status that Python makes of what `sys.exit` was given."""
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


def _leave(status: int) -> NoReturn:
    """Ends as Python does, but for the taking apart of every module: in a process of this size that takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Imports, and answers until the owner ends."""
    folder, owner = Path(sys.argv[1]), os.pidfd_open(int(sys.argv[2]))
    for name in SHARED:
        try:
            __import__(name)
        except ImportError:  # not installed: a script that needs it will say so
            continue
    gc.freeze()  # a fork that looks for garbage would copy all that is here
    sys.executable = str(folder / "python")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "asked"))
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _Running(listener).serve(owner)
    shutil.rmtree(folder, ignore_errors=True)
    _leave(0)


if __name__ == "__main__":
    main()
