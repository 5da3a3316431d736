"""A pool of Python workers for `--environment_type=EXTERNAL`: Flink asks it for a worker, it starts a process.

What Beam's own pool lacks on one machine: workers run in this very Python (Beam's starts whatever `python` is on
PATH, and hangs without a word where that one has no Beam), start from a process that has the imports done, and end
when the pool ends.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent import futures
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

PRELOAD = ["apache_beam.runners.worker.sdk_worker", "pe_beam.engine.graphs.ingest", "pe_beam.engine.graphs.iteration"]
STOP_SECONDS = 5.0


def run_worker(worker_id: str, control: str) -> None:
    """Runs one worker: it serves Flink's bundles until Flink closes the connection or the pool has ended."""
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    SdkHarness(control, worker_id=worker_id, state_cache_size=0, data_buffer_time_limit_ms=-1).run()


def _die_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _nothing() -> None:
    pass


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops worker processes at the request of a Flink TaskManager."""

    def __init__(self, context: ForkServerContext) -> None:
        self._context = context
        self._workers: dict[str, ForkServerProcess] = {}

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        try:
            url = request.control_endpoint.url
            worker = self._context.Process(target=run_worker, args=(request.worker_id, url))
            worker.start()
            self._workers[request.worker_id] = worker
        except Exception:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            worker.terminate()
            worker.join(STOP_SECONDS)
            if worker.is_alive():
                worker.kill()
        return beam_fn_api_pb2.StopWorkerResponse()

    def stop(self) -> None:
        """Ends all workers."""
        for worker in list(self._workers.values()):
            worker.kill()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pe_beam.runners.flink.workers", description=__doc__)
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument("--host", default="localhost", help="address to listen on; a sidecar keeps localhost")
    parser.add_argument("--marker", help="ignored: names the cluster that this pool belongs to")
    options = parser.parse_args(argv)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD])
    warm = context.Process(target=_nothing)
    warm.start()  # starting it waits for the imports, so that the first job does not wait for them
    warm.join()
    pool = WorkerPool(context)
    # gRPC would share a port with another pool, perhaps of older code: each would be asked for some of the workers.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(f"{options.host}:{options.port}")
    except RuntimeError:
        logging.error("--port %s: taken on %s by another program, or not allowed", options.port, options.host)
        return 1
    server.start()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    server.stop(1).wait()
    pool.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
