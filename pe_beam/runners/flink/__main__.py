"""The command line `python -m pe_beam.runners.flink install | start | flags | status | repair | stop`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pe_beam import console

INTERRUPTED = "pe_beam.runners.flink: interrupted"
if __name__ == "__main__":
    console.begin(INTERRUPTED)

from pe_beam.errors import PeBeamError
from pe_beam.runners.flink import install
from pe_beam.runners.flink.cluster import PORTS, Cluster, Settings

FOLDER = "runs/flink"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status (0 done, 1 failed, 2 wrong input, 130 interrupted)."""
    options = _parser().parse_args(argv)
    try:
        return int(options.command(options) or 0)
    except KeyboardInterrupt:
        return console.leave(INTERRUPTED)
    except PeBeamError as error:
        print(f"pe_beam.runners.flink: {error}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pe_beam.runners.flink", description="Flink on this machine, for pe-beam"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("install", help="build and install all that is needed; prints where it lies")
    command.set_defaults(command=_install)
    texts = {
        _start: "start a cluster, wait until it answers, print the Beam flags for it",
        _flags: "the Beam flags for a cluster, in one line",
        _status: "which parts of a cluster run and answer; status 1 if one does not",
        _repair: "start again whatever part of a cluster has ended",
        _stop: "stop a cluster; its logs stay",
    }
    for function, text in texts.items():
        command = commands.add_parser(function.__name__[1:], help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument("--dir", default=FOLDER, help=f"the cluster's folder (default: {FOLDER})")
        if function is _start:
            command.add_argument("--slots", type=int, default=2, help="of each TaskManager (default: 2)")
            command.add_argument("--task-managers", type=int, default=1, help="how many (default: 1)")
            command.add_argument("--java", default="java", help="a Java 11 or 17 (default: java on PATH)")
            command.add_argument(
                "--owner",
                dest="owners",
                action="append",
                type=int,
                default=[],
                metavar="PID",
                help="end with this process (default: outlive whoever starts it)",
            )
            for name in PORTS:
                command.add_argument("--" + name.replace("_", "-"), type=int, default=0, help="default: a free port")
    return parser


def _install(_: argparse.Namespace) -> None:
    install.find_java()
    print(f"full job server  {install.job_server_jar()}")
    print(f"thin job server  {install.job_server_jar(thin=True)}")
    print(f"Flink's jars     {install.flink_jars()}")


def _start(options: argparse.Namespace) -> None:
    cluster = Cluster(options.dir)
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    cluster.start(Settings(**given | {"owners": tuple(options.owners)}))
    print(f"Flink runs; its page is http://localhost:{cluster.settings.rest_port}, logs are in {_logs(options)}")
    print("Beam flags, after --")
    for flag in cluster.beam_flags():
        print(f"  {flag}")


def _flags(options: argparse.Namespace) -> None:
    print(" ".join(Cluster(options.dir).beam_flags()))


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster(options.dir)
    health, running = cluster.health(), cluster.running()
    for name, healthy in health.items():
        word = "answers" if healthy else ("does not answer" if name in running else "is not running")
        print(f"{name:<16} {word}")
    return 0 if all(health.values()) else 1


def _repair(options: argparse.Namespace) -> None:
    started = Cluster(options.dir).repair()
    print(f"started again: {', '.join(started)}" if started else "all parts run")


def _stop(options: argparse.Namespace) -> None:
    ended = Cluster(options.dir).stop()
    print(f"stopped; {ended} processes ended; logs are in {_logs(options)}" if ended else "no cluster was running")


def _logs(options: argparse.Namespace) -> Path:
    return Path(options.dir) / "logs"


if __name__ == "__main__":
    sys.exit(main())
