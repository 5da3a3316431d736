"""A standalone Flink cluster on this machine: JobManager, TaskManagers, Beam's job server, Python worker pool."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pe_beam.errors import InputError, PeBeamError
from pe_beam.runners.flink import install, processes, watch

HOST = "localhost"
START_SECONDS = 120.0
_OPENED = "lang lang.reflect util util.concurrent util.concurrent.atomic util.concurrent.locks net io nio text time"
JAVA_FLAGS = [
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED.split()),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    # Few cores, short jobs: a garbage collector without its own threads, and code that is fast from the start.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
]


@dataclass(frozen=True)
class Settings:
    """The settings of a cluster. A port of 0 means that `start` chooses a free port.

    Attributes:
      slots: number of slots of each TaskManager.
      task_managers: number of TaskManagers.
      rest_port: port of Flink's REST endpoint and web page.
      rpc_port: port of the JobManager for TaskManagers.
      job_port: port of Beam's job server.
      artifact_port: port of Beam's job server for files of a job.
      worker_port: port of the pool of Python workers.
      java: command of a Java 11 or 17.
      owners: process ids. The cluster ends when one of these processes has ended. If empty, the cluster outlives the
        process that started it.
    """

    slots: int = 2
    task_managers: int = 1
    rest_port: int = 0
    rpc_port: int = 0
    job_port: int = 0
    artifact_port: int = 0
    worker_port: int = 0
    java: str = "java"
    owners: tuple[int, ...] = ()


PORTS = ("rest_port", "rpc_port", "job_port", "artifact_port", "worker_port")


class Cluster:
    """A cluster with its own folder for settings, configuration and logs."""

    def __init__(self, folder: str | Path) -> None:
        """Takes the folder. It may not exist yet."""
        self.folder = Path(folder).resolve()
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self._mark = f"pe_beam.cluster={digest}"

    @property
    def settings(self) -> Settings:
        """Returns the settings of the started cluster. Raises InputError if none was started here."""
        path = self.folder / "cluster.json"
        if not path.exists():
            raise InputError(f"{self.folder}: no cluster was started here")
        found = json.loads(path.read_text())
        return Settings(**found | {"owners": tuple(found["owners"])})

    def beam_flags(self) -> list[str]:
        """Returns the Beam flags that run a pipeline on this cluster."""
        settings = self.settings
        return [
            "--runner=FlinkRunner",
            f"--flink_master={HOST}:{settings.rest_port}",
            f"--job_endpoint={HOST}:{settings.job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={HOST}:{settings.worker_port}",
            "--environment_cache_millis=60000",
            f"--parallelism={settings.slots * settings.task_managers}",
        ]

    def running(self) -> dict[str, list[int]]:
        """Returns process ids by name: jobmanager, taskmanager-N, job-server, worker-pool."""
        found: dict[str, list[int]] = {}
        for process in processes.find(self._mark):
            found.setdefault(process.name, []).append(process.pid)
        return found

    # --- start, repair, stop ------------------------------------------------------------------------------

    def start(self, settings: Settings) -> None:
        """Starts all parts and waits until each answers. If one does not answer, it stops all parts again.

        Raises:
          InputError: the cluster runs already, or a setting or port is not possible.
          PeBeamError: Java or Maven is missing, or a part did not start; the message then names its log.
        """
        if self.running():
            raise InputError(f"{self.folder}: a cluster is running here already; stop it first")
        for name in ("slots", "task_managers"):
            if getattr(settings, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(settings, name)}: at least 1 is wanted")
        for owner in settings.owners:
            if not watch.Owner.of(owner).lives():
                raise InputError(f"--owner {owner}: no process of this id runs, so the cluster would end at once")
        settings = _with_ports(settings)
        settings = Settings(**{**asdict(settings), "java": install.find_java(settings.java)})
        install.job_server_jar(thin=True)
        install.flink_jars()
        try:
            self._lay_out(settings)
        except OSError as error:
            raise InputError(f"--dir {self.folder}: cannot be written ({error.strerror}); give another") from None
        try:
            self.repair()
        except BaseException:
            self.stop()
            raise

    def _lay_out(self, settings: Settings) -> None:
        for name in ("logs", "conf", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", "log4j.properties"):
            shutil.copy(install.TEMPLATES / name, self.folder / "conf" / name)
        (self.folder / "cluster.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")

    def repair(self) -> list[str]:
        """Starts every part that does not run, and waits until all parts answer. Returns the names of started parts."""
        settings, running = self.settings, self.running()
        missing = {name: command for name, command in self._commands(settings).items() if name not in running}
        if "jobmanager" in missing and len(missing) < len(self._commands(settings)):
            # TaskManagers find the new JobManager, but keep slots for jobs of the old one: restart all parts.
            processes.end(self._mark)
            missing = self._commands(settings)
        known = self._registered()
        if missing and settings.owners:
            watch.start(self._mark, settings.owners)
        for name, command in missing.items():
            self._launch(name, command)
        self._wait(settings)
        self._wait_for_new(settings, known, sum(name.startswith("taskmanager") for name in missing))
        return list(missing)

    def stop(self) -> int:
        """Ends every process of the cluster. Logs stay. Returns the number of processes."""
        ended = processes.end(self._mark)
        for name in ("tmp", "conf"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "cluster.json").unlink(missing_ok=True)
        return ended

    # --- parts --------------------------------------------------------------------------------------------

    def _commands(self, settings: Settings) -> dict[str, list[str]]:
        jars = f"{install.flink_jars()}/*:{install.job_server_jar(thin=True)}"
        conf, temporary = self.folder / "conf", self.folder / "tmp"
        flink = "org.apache.flink.runtime"

        def java(name: str, heap: str, main: str, *arguments: str) -> list[str]:
            logs = f"-Dlog4j.configurationFile={conf / 'log4j.properties'}"
            marks = [f"-D{self._mark}/{name}", f"-Djava.io.tmpdir={temporary}"]
            return [settings.java, f"-Xmx{heap}", *JAVA_FLAGS, *marks, logs, "-cp", jars, main, *arguments]

        shared = ["--configDir", str(conf), f"-Djobmanager.rpc.port={settings.rpc_port}"]
        shared += [f"-Drest.port={settings.rest_port}", f"-Dio.tmp.dirs={temporary}"]
        commands = {"jobmanager": java("jobmanager", "512m", f"{flink}.entrypoint.StandaloneSessionClusterEntrypoint")}
        commands["jobmanager"] += shared
        for number in range(1, settings.task_managers + 1):
            name = f"taskmanager-{number}"
            main = f"{flink}.taskexecutor.TaskManagerRunner"
            slots = f"-Dtaskmanager.numberOfTaskSlots={settings.slots}"
            commands[name] = [*java(name, "640m", main), *shared, slots]
        commands["job-server"] = java(
            "job-server",
            "512m",
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--flink-master={HOST}:{settings.rest_port}",
            f"--job-host={HOST}",
            f"--job-port={settings.job_port}",
            f"--artifact-port={settings.artifact_port}",
            "--expansion-port=-1",
            # In two: its parser takes no `--name=value` in which the value has a space.
            "--artifacts-dir",
            str(temporary / "artifacts"),
        )
        commands["worker-pool"] = [
            sys.executable,
            "-m",
            "pe_beam.runners.flink.workers",
            f"--port={settings.worker_port}",
        ]
        commands["worker-pool"] += [f"--host={HOST}", f"--marker={self._mark}/worker-pool"]
        return commands

    def log(self, name: str) -> Path:
        """Returns the path of the log of a part."""
        return self.folder / "logs" / f"{name}.log"

    def _launch(self, name: str, command: list[str]) -> None:
        with self.log(name).open("ab") as log:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def _wait(self, settings: Settings) -> None:
        limit = time.monotonic() + START_SECONDS
        time.sleep(0.3)
        while True:
            health = self.health()
            if all(health.values()):
                return
            alive = self.running()
            for name in (name for name, healthy in health.items() if not healthy):
                if name not in alive:
                    raise PeBeamError(f"{name}: ended while it was starting; {self._last_words(name)}")
                if time.monotonic() > limit:
                    raise PeBeamError(f"{name}: does not answer after {START_SECONDS:.0f} s; {self._last_words(name)}")
            time.sleep(0.2)

    def _wait_for_new(self, settings: Settings, known: set[str], started: int) -> None:
        """Waits until Flink has the TaskManagers that were started, and has noticed which others are gone.

        One that was killed stays registered until its heartbeat times out: a job that is sent before would get its
        slots, or find none.
        """
        limit = time.monotonic() + START_SECONDS
        while started:
            found = self._registered()
            if len(found - known) >= started and len(found) == settings.task_managers:
                return
            if time.monotonic() > limit:
                raise PeBeamError(
                    f"taskmanager: not all are registered after {START_SECONDS:.0f} s; see {self.log('jobmanager')}"
                )
            time.sleep(0.2)

    def _registered(self) -> set[str]:
        """Returns Flink's ids of the TaskManagers that it takes for alive."""
        listed = rest(f"{HOST}:{self.settings.rest_port}", "/taskmanagers") or {}
        return {str(entry["id"]) for entry in listed.get("taskmanagers", [])}

    def health(self) -> dict[str, bool]:
        """Returns for each part whether it answers: Flink at its REST endpoint, the others at their ports."""
        settings = self.settings
        overview = rest(f"{HOST}:{settings.rest_port}", "/overview")
        registered = (overview or {}).get("taskmanagers", 0)
        alive = self.running()
        health = {"jobmanager": overview is not None}
        names = [f"taskmanager-{number}" for number in range(1, settings.task_managers + 1)]
        for name in names:
            health[name] = name in alive and registered >= len(names)
        health["job-server"] = answers(HOST, settings.job_port)
        health["worker-pool"] = answers(HOST, settings.worker_port)
        return health

    def _last_words(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return f"its log is {self.log(name)}" + (f" and ends: {lines[-1][:200]}" if lines else " (empty)")


def _with_ports(settings: Settings) -> Settings:
    """Chooses free ports for ports of 0. Raises InputError if a given port is taken or not allowed."""
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for name in PORTS:
            wanted = getattr(settings, name)
            # Same option as the servers: a port in TIME_WAIT is free for them.
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except (OSError, OverflowError) as error:
                flag = "--" + name.replace("_", "-")
                why = getattr(error, "strerror", None) or "cannot be bound"
                raise InputError(f"{flag} {wanted}: the port is taken or not allowed ({why}); give another") from None
            chosen[name] = probe.getsockname()[1]
    return Settings(**{**asdict(settings), **chosen})


def free_port() -> int:
    """Returns a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Returns True if something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=timeout):
        return True
    return False


def rest(address: str, path: str, timeout: float = 5.0) -> dict[str, Any] | None:
    """Returns the answer of Flink's REST endpoint, or None if there is no JSON object as answer."""
    url = address if "://" in address else f"http://{address}"
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=timeout) as reply:
            found = json.load(reply)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return found if isinstance(found, dict) else None
