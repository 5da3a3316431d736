"""A program that gets requests line by line. It is started once, has a time limit, and is killed with its children.

One request is open at a time. It is a JSON object on a line of standard input. The answer is a JSON object on a line
of standard output. Standard error is discarded (rule 7: what a program writes must not be in a worker's log).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import weakref
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_BYTES = 64 << 20
"""Largest size of a picture's file in bytes. An answer that contains a picture may be 1.5 times as long."""
FOLDER = "PE_BEAM_FOLDER"
"""Environment variable with the folder in which the program puts its files."""
PASSED: tuple[str, ...] = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY")
PASSED += ("XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""Environment variables that the program gets. It gets none of the keys and tokens that a worker may hold."""


class ProgramError(Exception):
    """The program made no picture. The message is one of a few fixed phrases."""


class Child:
    """One running program and its folder. Only one thread may use it at a time.

    Args:
      command: program and arguments.
      environment: variables in addition to those of `PASSED`.

      Raises:
        ProgramError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pe_beam-program-"))
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        passed |= {**environment, FOLDER: str(self.folder)}
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=passed,
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise ProgramError(f"the program cannot be started ({error.strerror})") from None
        self.owner = os.getpid()
        self._left = bytearray()
        self.stop = weakref.finalize(self, _stop, self._process, self.folder, self.owner)

    def ask(self, request: Mapping[str, Any], seconds: float) -> bytes:
        """Returns the bytes of the picture that answers one request.

        Raises:
          ProgramError: the program is late, has died, or answers without a picture. Its state is then unknown: stop it.
        """
        deadline = time.monotonic() + seconds
        self._send((json.dumps(request) + "\n").encode(), deadline)
        try:
            answer = json.loads(self._line(deadline))
        except (ValueError, RecursionError):
            raise ProgramError("an answer is not a JSON object on a line") from None
        if not isinstance(answer, dict):
            raise ProgramError("an answer is not a JSON object on a line")
        if answer.get("id") != request["id"]:
            raise ProgramError("an answer has another id than the request")
        if "error" in answer:
            raise ProgramError("the program answered with an error")
        return self._bytes(answer)

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        while data:
            self._wait(deadline, writing=pipe)
            try:
                data = data[os.write(pipe, data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise ProgramError("the program ended before it answered") from None

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        seen = 0
        while (end := self._left.find(b"\n", seen)) < 0:
            if len(self._left) > MAX_BYTES * 3 // 2:
                raise ProgramError(f"an answer of more than {MAX_BYTES * 3 // 2 >> 20} MB")
            seen = len(self._left)
            self._wait(deadline, reading=pipe)
            data = os.read(pipe, 1 << 20)
            if not data:
                raise ProgramError("the program ended before it answered")
            self._left += data
        line = bytes(self._left[:end])
        del self._left[: end + 1]
        return line

    def _wait(self, deadline: float, *, reading: int | None = None, writing: int | None = None) -> None:
        poll = select.poll()
        if reading is not None:
            poll.register(reading, select.POLLIN)
        if writing is not None:
            poll.register(writing, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ProgramError("the program did not answer within generator.timeout")

    def _bytes(self, answer: Mapping[str, Any]) -> bytes:
        carried, named = answer.get("image"), answer.get("file")
        if isinstance(carried, str) and named is None:
            try:
                return b64decode(carried, validate=True)
            except ValueError:
                raise ProgramError("an answer's image is not base64") from None
        if not isinstance(named, str) or carried is not None:
            raise ProgramError("an answer has neither a file nor an image, or both")
        path = self.folder / named
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                raise ProgramError("an answer names what is no file")
            if about.st_size > MAX_BYTES:
                raise ProgramError(f"a picture of more than {MAX_BYTES >> 20} MB")
            data = path.read_bytes()
        except (OSError, ValueError):
            raise ProgramError("an answer names a file that is not there or cannot be read") from None
        if path.parent.resolve().is_relative_to(self.folder.resolve()):
            path.unlink(missing_ok=True)  # a file in the program's own folder is read once
        return data


def _stop(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    """Kills a program with its children. Does nothing in a fork that has inherited it."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
