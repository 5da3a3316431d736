"""What goes wrong before a job, or instead of one: each by one message that names the cause."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.errors import InputError, StorageError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.runners.flink import check, install, processes, workers
from pe_beam.runners.flink import runner as flink_runner
from pe_beam.runners.flink.arrival import ArriveFn
from pe_beam.runners.flink.check import FlinkError, Target
from pe_beam.runners.flink.cluster import Cluster, Settings, free_port
from tests.runners.flink.conftest import environment_without, flink_command

on_flink = [pytest.mark.flink, pytest.mark.xdist_group("flink")]
TARGET = Target(
    master="",
    job_endpoint="",
    jar="",
    java="java",
    environment_type="",
    environment_config="",
    parallelism=None,
    own_server=False,
)


def target(**changes: object) -> Target:
    return Target(**{**TARGET.__dict__, **changes})


@pytest.fixture
def answer() -> Iterator[tuple[dict[str, object], str]]:
    """Something that answers over HTTP with a JSON object that a test fills; its address."""
    said: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield said, f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- Java, Maven, jars, ports ------------------------------------------------------------------------------


def test_no_java_says_what_to_install(tmp_path):
    environment = environment_without("java", folder=tmp_path / "bin")
    done = flink_command("start", "--dir", str(tmp_path / "c"), env=environment)
    assert done.returncode == 1
    assert "no Java found on PATH; Flink 1.19 needs Java 11 or 17" in done.stderr
    assert not (tmp_path / "c").exists()


def test_another_java_is_refused(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    java.chmod(0o755)
    with pytest.raises(install.MissingToolError, match=r"is Java 21; Flink .* needs Java 11 or 17"):
        install.find_java(str(java))


def test_no_maven_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PE_BEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.MissingToolError, match="apt-get install maven"):
        install.job_server_jar()
    assert not [path for path in (tmp_path / "cache/flink").iterdir() if path.is_dir()]


def test_a_failed_build_names_its_log_and_leaves_nothing(tmp_path, monkeypatch):
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho broken; exit 3\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PE_BEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(Exception, match=r"mvn: failed with status 3; see .*maven\.log"):
        install.job_server_jar()
    assert (tmp_path / "cache/flink/maven.log").read_text() == "broken\n"
    assert not [path for path in (tmp_path / "cache/flink").iterdir() if path.is_dir()]


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"--job-port {port}: the port is taken"):
            Cluster(tmp_path / "c").start(Settings(job_port=port))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("port", [65536, -1])
def test_a_port_that_is_none_is_named(tmp_path, port):
    with pytest.raises(InputError, match=f"--rest-port {port}: the port is taken or not allowed"):
        Cluster(tmp_path).start(Settings(rest_port=port))


def test_an_owner_that_is_gone_is_named(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(InputError, match=f"--owner {ended.pid}: no process of this id runs"):
        Cluster(tmp_path).start(Settings(owners=(os.getpid(), ended.pid)))


def test_a_folder_that_cannot_be_is_named(flink_pieces, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--dir .*/file: cannot be written \(Not a directory\)"):
        Cluster(tmp_path / "file").start(Settings())


@pytest.mark.parametrize("name", ["slots", "task_managers"])
def test_a_cluster_of_nothing_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="at least 1 is wanted"):
        Cluster(tmp_path).start(Settings(**{name: 0}))


def test_commands_on_no_cluster(tmp_path, capsys):
    from pe_beam.runners.flink.__main__ import main as flink

    assert flink(["status", "--dir", str(tmp_path)]) == 2
    assert "no cluster was started here" in capsys.readouterr().err
    assert flink(["stop", "--dir", str(tmp_path)]) == 0
    assert "no cluster was running" in capsys.readouterr().out


@pytest.mark.xdist_group("flink")
def test_a_missing_jar_is_named(flink_pieces, small, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    flags = ["--runner=FlinkRunner", "--flink_master=[local]", "--flink_job_server_jar=/nowhere/b.jar"]
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run"), "--", *flags]) == 2
    assert "--flink_job_server_jar=/nowhere/b.jar: no such file" in capsys.readouterr().err


def test_processes_are_listed_alike_by_proc_and_ps():
    seen = {pid for pid, _, _ in processes._from_ps()}
    assert os.getpid() in seen
    assert os.getpid() in {pid for pid, _, _ in processes._from_proc()}


# --- a cluster that is not what the flags say ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"flink-version": "1.18.1", "taskmanagers": 1, "slots-total": 2},
            r"is Flink 1\.18\.1; .* needs 1\.19",
        ),
        ({"flink-version": "1.190.0", "taskmanagers": 1, "slots-total": 2}, "needs 1"),
        ({"flink-version": "1.19.3", "taskmanagers": 0, "slots-total": 0}, "has no TaskManager"),
        ({"flink-version": "1.19.3", "taskmanagers": 1, "slots-total": 2}, "more than the 2 slots"),
        ({"something": "else"}, "no Flink answers there"),
    ],
)
def test_a_cluster_that_does_not_do(answer, said, message):
    answer[0].update(said)
    with pytest.raises(FlinkError, match=message):
        check.check(target(master=answer[1], parallelism=3))


def test_parallelism_of_nothing():
    for wrong in (0, -2):
        with pytest.raises(InputError, match=f"--parallelism={wrong}: at least 1 is wanted"):
            check.check(target(parallelism=wrong))
    check.check(target(parallelism=-1))


def test_nobody_there():
    port = free_port()
    with pytest.raises(FlinkError, match="no Flink answers there"):
        check.check(target(master=f"localhost:{port}"))
    with pytest.raises(FlinkError, match="no job server answers there"):
        check.check(target(job_endpoint=f"localhost:{port}"))
    for config in (f"localhost:{port}", json.dumps({"url": f"localhost:{port}"})):
        with pytest.raises(FlinkError, match=f"no pool of Python workers answers there.*--port {port}"):
            check.check(target(environment_type="EXTERNAL", environment_config=config))


@pytest.mark.parametrize(
    "changes",
    [
        {"job_endpoint": "localhost"},
        {"environment_type": "EXTERNAL", "environment_config": "localhost:many"},
        {"environment_type": "EXTERNAL", "environment_config": "{}"},
        {"master": "http://localhost:8081/"},
    ],
)
def test_an_address_that_is_none(changes):
    with pytest.raises(InputError, match="host:port"):
        check.check(target(**changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NoResourceAvailableException: Could not acquire the minimum required resources.", "free slots"),
        ("java.io.IOException: Insufficient number of network buffers: required 33, but only 9 available.", "buffers"),
        ("java.io.IOException: Received exit code 125 for command 'docker run -d'", "--environment_type=EXTERNAL"),
        ('java.io.IOException: Cannot run program "docker": error=2', "--environment_type=EXTERNAL"),
        ("ModuleNotFoundError: No module named 'pe_beam'", "workers have no pe_beam"),
        ("java.io.InvalidClassException: local class incompatible", "do not fit together"),
        ("The TaskExecutor is shutting down. TaskManager with id a:1 is no longer reachable.", "TaskManager was lost"),
        ("RuntimeException: SDK harness exited", "Python worker ended"),
        ("<_InactiveRpcError of RPC: status = StatusCode.UNAVAILABLE>", "job server stopped"),
        ("failed in state FAILED: org.x.JobCancellationException: Job was cancelled.", "job was cancelled at Flink"),
    ],
)
def test_known_failures_are_explained_without_their_text(text, message):
    found = check.explain(f"private-value {text} private-value")
    assert message in str(found)
    assert "private-value" not in str(found)


def test_flink_that_ends_before_a_worker_has_begun_is_no_missing_pool(answer):
    _, address = answer
    gone = target(master=f"localhost:{free_port()}", environment_type="EXTERNAL", environment_config="localhost:1")
    assert "Flink stopped answering" in str(check.no_worker(gone, 45))
    there = target(master=address, environment_type="EXTERNAL", environment_config="localhost:1")
    assert "no Python worker has begun after 45 s" in str(check.no_worker(there, 45))


def test_an_unknown_failure_is_not_guessed_at():
    assert check.explain("IllegalStateException: what") is None


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_tells_of_a_run_directory_that_is_another(tmp_path):
    (tmp_path / "a").write_text("token")
    assert list(ArriveFn(str(tmp_path), "a", "token").process(0)) == [0]
    assert (tmp_path / "a").read_text() == "token\narrived"
    for name, token in (("a", "other"), ("b", "token")):
        with pytest.raises(StorageError, match="workers do not see it"):
            list(ArriveFn(str(tmp_path), name, token).process(0))


def test_two_pools_do_not_share_a_port(monkeypatch, caplog):
    monkeypatch.setattr(workers, "PRELOAD", [])
    other = grpc.server(futures.ThreadPoolExecutor(1))  # as a pool of an older version, which shares its port
    port = other.add_insecure_port("localhost:0")
    other.start()
    try:
        assert workers.main(["--port", str(port)]) == 1
    finally:
        other.stop(None).wait()
    assert f"--port {port}: taken on localhost by another program" in caplog.text


def run_small(small, tmp_path, flags: list[str]) -> int:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    return main(["run", str(path), "--run-dir", str(tmp_path / "run"), "--", *flags])


def with_pool(cluster: Cluster, port: int) -> list[str]:
    flags = [flag for flag in cluster.beam_flags() if not flag.startswith("--environment_config")]
    return [*flags, f"--environment_config=localhost:{port}"]


class TestOnACluster:
    pytestmark = on_flink

    def test_a_pool_that_is_missing_is_named_within_a_minute(self, whole, small, tmp_path, capsys):
        began = time.monotonic()
        assert run_small(small, tmp_path, with_pool(whole, free_port())) == 1
        assert "no pool of Python workers answers there" in capsys.readouterr().err
        assert time.monotonic() - began < 60 + 60  # a busy machine takes its time

    def test_a_pool_that_is_silent_is_named_after_a_while(self, whole, small, tmp_path, capsys, monkeypatch):
        assert flink_runner.ARRIVAL_SECONDS <= 50  # with what comes before and after: within a minute
        monkeypatch.setattr(flink_runner, "ARRIVAL_SECONDS", 5.0)
        began = time.monotonic()
        with socket.socket() as silent:
            silent.bind(("localhost", 0))
            silent.listen()
            assert run_small(small, tmp_path, with_pool(whole, silent.getsockname()[1])) == 1
        said = capsys.readouterr().err
        assert "no Python worker has begun after 5 s" in said
        assert "--environment_config=localhost:" in said
        assert time.monotonic() - began < 5 + 60

    def test_more_slots_than_there_are(self, whole, small, tmp_path, capsys):
        assert run_small(small, tmp_path, [*whole.beam_flags(), "--parallelism=9"]) == 1
        assert "--parallelism=9: more than the 2 slots" in capsys.readouterr().err

    def test_a_run_directory_that_workers_do_not_see(self, whole, small, tmp_path, capsys):
        port = free_port()
        pool = f"mount -t tmpfs none {tmp_path} && exec {sys.executable} -m pe_beam.runners.flink.workers --port {port}"
        if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
            pytest.skip("no right to hide a folder from a process")
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", pool], cwd="/")
        try:
            limit = time.monotonic() + 120
            while not check.answers("localhost", port) and time.monotonic() < limit:
                time.sleep(0.1)
            assert run_small(small, tmp_path, with_pool(whole, port)) == 1
            assert "the workers do not see it" in capsys.readouterr().err
        finally:
            process.terminate()
            process.wait(30)

    def test_what_flink_itself_refuses_is_explained(self, flink_pieces, small, tmp_path, capsys, monkeypatch):
        templates = shutil.copytree(install.TEMPLATES, tmp_path / "templates")
        config = (templates / "config.yaml").read_text().replace(": 256m\n", ": 2m\n", 2)
        (templates / "config.yaml").write_text(config.replace("timeout: 60000", "timeout: 3000"))
        monkeypatch.setattr(install, "TEMPLATES", templates)
        cluster = Cluster(tmp_path / "c")
        cluster.start(Settings(owners=(os.getpid(),)))
        try:
            assert run_small(small, tmp_path, cluster.beam_flags()) == 1
            assert "raise taskmanager.memory.network.max" in capsys.readouterr().err
            # Without the address of Flink nothing can be asked before the job.
            flags = [flag for flag in cluster.beam_flags() if "master" not in flag]
            assert run_small(small, tmp_path, [*flags, "--parallelism=9"]) == 1
            assert "Flink has not enough free slots" in capsys.readouterr().err
        finally:
            cluster.stop()

    def test_a_second_start_is_refused_and_status_tells(self, whole):
        again = flink_command("start", "--dir", str(whole.folder))
        assert again.returncode == 2
        assert "running here already" in again.stderr
        assert flink_command("status", "--dir", str(whole.folder)).returncode == 0

    def test_a_starter_that_is_killed_leaves_what_stop_ends(self, flink_pieces, tmp_path):
        folder = tmp_path / "c"
        command = [sys.executable, "-m", "pe_beam.runners.flink", "start", "--dir", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starter:
            limit = time.monotonic() + 180
            while not Cluster(folder).running() and time.monotonic() < limit:
                time.sleep(0.05)
            starter.kill()
        assert flink_command("stop", "--dir", str(folder)).returncode == 0
        assert Cluster(folder).running() == {}
        assert not list(Path(folder).glob("tmp"))


def test_a_job_server_that_is_there_and_says_nothing(small, tmp_path, monkeypatch):
    """As one that is killed right after it was asked: Beam alone would wait for five minutes."""
    assert flink_runner.JOB_SERVER_SECONDS <= 45  # as any other silence: within a minute
    monkeypatch.setattr(flink_runner, "JOB_SERVER_SECONDS", 2)
    with socket.create_server(("localhost", 0)) as silent:
        flags = ["--runner=PortableRunner", f"--job_endpoint=localhost:{silent.getsockname()[1]}"]
        with pytest.raises(FlinkError, match="the job server stopped answering"):
            evolve(parse_recipe(small), tmp_path / "run", [*flags, "--environment_type=LOOPBACK"])
    assert not (tmp_path / "run/ledger.jsonl").exists()
