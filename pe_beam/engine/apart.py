"""Embeds in a separate process, for `data.never_stop`: a record that crashes a decoder abstains (rule 14).

The child is `python -m pe_beam.engine.apart RUN_DIR`. It reads batches as Arrow streams from standard input and writes
vectors to standard output. Each message is preceded by its length. The standard error, to which decoders write, is
dropped. If the child dies or raises, the batch is halved until one record is left, which is the reject.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from pe_beam import errors
from pe_beam.contracts.embedder import Embedder, Embedding, checked_vectors
from pe_beam.contracts.record import Fault
from pe_beam.errors import PeBeamError, StageError

CANNOT = Fault("record that the embedder cannot take")
_LENGTH = struct.Struct(">Q")
_READY = b"ready"


class ApartEmbedder:
    """A run's embedder in a separate process. One thread uses it at a time."""

    def __init__(self, root: str, dimension: int) -> None:
        """Takes the run directory. The child process starts with the first batch."""
        self._root, self._dimension = root, dimension
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)  # keeps this object until `close`

    def close(self) -> None:
        """Ends the child process once it has answered. A later batch would start another."""
        with self._lock:
            self.stop()
        atexit.unregister(self.stop)

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds records, as `Embedder.embed`. A record that crashes the child is a fault of that record alone.

        Raises:
          PeBeamError: the embedder cannot be started, or raises it itself (a missing package, a device that differs).
        """
        vectors = np.zeros((records.num_rows, self._dimension), dtype=np.float32)
        faults: dict[int, Fault] = {}
        with self._lock, self._ended_if_interrupted():
            spans = [(0, records.num_rows)]
            while spans:
                start, stop = spans.pop()
                found = self._ask(records.slice(start, stop - start)) if stop > start else None
                if found is not None:
                    vectors[start:stop] = found.vectors
                    faults |= {start + row: fault for row, fault in found.faults.items()}
                elif stop - start == 1:
                    faults[start] = CANNOT
                elif stop > start:
                    middle = (start + stop) // 2
                    spans += [(middle, stop), (start, middle)]
        return Embedding(vectors, faults)

    @contextlib.contextmanager
    def _ended_if_interrupted(self) -> Iterator[None]:
        """Ends a child that may still have an answer for whoever does not wait for it any more."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the child process, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _ask(self, records: pa.Table) -> Embedding | None:
        """Returns the answer to one batch; None if the child raised or died. A dead child is restarted later."""
        child = self._started()
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, records.schema) as writer:
            writer.write_table(records)
        try:
            _send(child.stdin, sink.getvalue())
            head = _receive(child.stdout)
            body = _receive(child.stdout)
        except (OSError, EOFError):
            self.stop()
            return None
        return _answer(json.loads(head), body, records.num_rows, self._dimension)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        path = os.pathsep.join(place or "." for place in sys.path)
        command = [sys.executable, "-m", "pe_beam.engine.apart", self._root]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._child = child  # before the wait, in which this thread may be interrupted
        try:
            said = _receive(child.stdout)
        except (OSError, EOFError):
            said = b"{}"
        if said != _READY:  # it failed before the first record, so no record is the cause
            self.stop()
            raise _error(json.loads(said))
        return child


def _answer(head: dict[str, object], body: bytes, rows: int, dimension: int) -> Embedding | None:
    if "error" in head:
        if head["error"] is None:
            return None
        raise _error(head)
    faults = {int(row): Fault(kind, detail) for row, kind, detail in head["faults"]}  # type: ignore[attr-defined]
    vectors = np.frombuffer(body, np.float32)
    if len(vectors) != rows * dimension:
        return None  # as if it had raised: an embedder may do so for one odd record, which has to abstain alone
    return Embedding(vectors.reshape(rows, dimension), faults)


def _error(told: dict[str, object]) -> PeBeamError:
    kind = getattr(errors, str(told.get("error")), StageError)
    message = told.get("message", "stage EmbedPieces: the embedder cannot be started in a process of its own")
    return kind(message) if issubclass(kind, PeBeamError) else StageError(message)


def _send(pipe: IO[bytes] | None, data: bytes) -> None:
    if pipe is None:
        raise EOFError
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes:
    head = b"" if pipe is None else pipe.read(_LENGTH.size)
    if pipe is None or len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data


_MOST = 2  # children at a time; a stream has a run for each of its windows
_open: dict[tuple[str, str, int], ApartEmbedder] = {}
_one_at_a_time = threading.Lock()


def apart_embedder(root: str, embedding_id: str, dimension: int) -> ApartEmbedder:
    """Returns the embedder of a run, one per process. Another recipe in the same directory gets another child.

    The children of all runs but the latest two are ended.
    """
    with _one_at_a_time:
        key = (root, embedding_id, dimension)
        found = _open.pop(key, None) or ApartEmbedder(root, dimension)
        _open[key] = found  # the latest is last
        older = [_open.pop(each) for each in list(_open)[:-_MOST]]
    for each in older:
        each.close()
    return found


@contextlib.contextmanager
def ended_after(root: str) -> Iterator[None]:
    """Ends this process's children of a run when the body ends, which is when the run does."""
    try:
        yield
    finally:
        with _one_at_a_time:
            ended = [_open.pop(key) for key in list(_open) if key[0] == root]
        for each in ended:
            each.close()


def main(argv: list[str]) -> None:
    """Runs the child process: answers batches until its standard input ends."""
    # A terminal sends Ctrl-C to it as well: to die of that would be taken for the fault of a record.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries goes to standard error, which is dropped
    from pe_beam.engine.run import open_run
    from pe_beam.engine.selfcheck import hold_embedder

    try:
        run = open_run(argv[0])
        hold_embedder(run)
        embedder = run.embedder
        _check_length(embedder, run.modality.payload)
    except PeBeamError as error:
        _send(answers, json.dumps({"error": type(error).__name__, "message": str(error)}).encode())
        return
    _send(answers, _READY)
    with contextlib.suppress(EOFError):
        while True:
            records = pa.ipc.open_stream(_receive(sys.stdin.buffer)).read_all()
            head, body = _embedded(embedder, records)
            _send(answers, json.dumps(head).encode())
            _send(answers, body)


def _check_length(embedder: Embedder, payload: pa.Schema) -> None:
    """Raises StageError for vectors of another length than the embedder says, while no record can be the cause."""
    try:
        found = embedder.embed(payload.empty_table())
    except PeBeamError:
        raise
    except Exception:  # records are never none
        return
    checked_vectors(found, 0, embedder.dimension)


def _embedded(embedder: object, records: pa.Table) -> tuple[dict[str, object], bytes]:
    try:
        found: Embedding = embedder.embed(records)  # type: ignore[attr-defined]
    except PeBeamError as error:
        return {"error": type(error).__name__, "message": str(error)}, b""
    except Exception:
        return {"error": None}, b""
    faults = [[row, fault.kind, fault.detail] for row, fault in found.faults.items()]
    return {"faults": faults}, np.ascontiguousarray(found.vectors, dtype=np.float32).tobytes()


if __name__ == "__main__":
    main(sys.argv[1:])
