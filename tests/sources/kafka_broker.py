"""A Kafka broker of one node (KRaft) from Maven's jars, which a test may kill and start again."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.storage.servers import free_port

VERSION = "3.9.1"
CACHE = Path(os.environ.get("PE_BEAM_CACHE") or Path.home() / ".cache" / "pe_beam") / f"kafka-{VERSION}"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pe_beam</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""
SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:{controller}
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
controller.listener.names=CONTROLLER
log.dirs={logs}
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
"""
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def missing() -> str | None:
    """Why Kafka cannot be tested here."""
    if shutil.which("java") is None:
        return "Kafka was NOT tested: no Java on PATH"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 11:
        return "Kafka was NOT tested: Java 11 or newer is wanted"
    if not CACHE.exists() and shutil.which("mvn") is None:
        return "Kafka was NOT tested: no Maven on PATH"
    return None


def jars() -> Path:
    """The folder of the broker's jars, which Maven fills once, completely or not at all."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / f"{CACHE.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not CACHE.exists():
            with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
                Path(folder, "pom.xml").write_text(POM)
                command = ["mvn", "-B", "-ntp", "-q", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
                subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, check=True, timeout=300)
                Path(folder, "jars").rename(CACHE)
    return CACHE


class Broker:
    """A broker that keeps its logs below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._command = [*JAVA, "-cp", f"{jars()}/*"]
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_port(), free_port()
        self.server = f"localhost:{port}"
        settings = SETTINGS.format(port=port, controller=controller, logs=folder / "logs")
        (folder / "server.properties").write_text(settings)
        format_ = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", "server.properties"]
        subprocess.run([*self._command, *format_], cwd=folder, capture_output=True, check=True, timeout=300)

    def start(self) -> None:
        """Starts it; it answers when this returns."""
        with (self._folder / "out.txt").open("ab") as log:
            command = [*self._command, "kafka.Kafka", "server.properties"]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        until = time.monotonic() + 180
        while time.monotonic() < until:
            assert self._process.poll() is None, f"the broker ended; see {self._folder}/out.txt"
            try:
                self.admin().list_topics(timeout=1)
                return
            except self._errors():
                time.sleep(0.1)
        raise AssertionError("the broker does not answer")

    def kill(self) -> None:
        """Ends it at once, as a machine that loses its power."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def _errors(self) -> type[Exception]:
        from confluent_kafka import KafkaException

        found: type[Exception] = KafkaException
        return found

    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.server, "log_level": 0})

    def topic(self, name: str, partitions: int = 1, **settings: str) -> str:
        """Makes a topic with stamps of the broker's, unless settings say otherwise (with _ for a dot)."""
        from confluent_kafka.admin import NewTopic

        config = {"message_timestamp_type": "LogAppendTime", **settings}
        named = {key.replace("_", "."): value for key, value in config.items()}
        admin = self.admin()  # what has no name ends before its answer
        admin.create_topics([NewTopic(name, partitions, 1, config=named)])[name].result(60)
        self.wait(name, partitions)
        return name

    def wait(self, name: str, partitions: int) -> None:
        """Waits until each partition answers."""
        from confluent_kafka import Consumer, TopicPartition

        for partition in range(partitions):
            for _ in range(3000):
                reader = Consumer({"bootstrap.servers": self.server, "group.id": "ready", "log_level": 0})
                try:
                    reader.get_watermark_offsets(TopicPartition(name, partition), timeout=5, cached=False)
                    break
                except self._errors():
                    time.sleep(0.02)
                finally:
                    reader.close()

    def grow(self, name: str, partitions: int) -> None:
        """Gives a topic more partitions."""
        from confluent_kafka.admin import NewPartitions

        admin = self.admin()
        admin.create_partitions([NewPartitions(name, partitions)])[name].result(60)
        self.wait(name, partitions)

    def delete_records(self, name: str, partition: int, before: int) -> None:
        """Deletes a partition's first messages, as retention does."""
        from confluent_kafka import TopicPartition

        admin = self.admin()
        for answer in admin.delete_records([TopicPartition(name, partition, before)]).values():
            answer.result(60)

    def producer(self, **settings: Any) -> Any:
        from confluent_kafka import Producer

        return Producer({"bootstrap.servers": self.server, "linger.ms": 0, "log_level": 0, **settings})

    def send(self, name: str, values: list[Any], partition: int = 0, producer: Any = None) -> list[int]:
        """Writes messages: bytes as they are, None as a tombstone, all else as JSON. Returns their stamps in ms."""
        stamps: list[int] = []
        writer = producer or self.producer()
        for value in values:
            raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            told = lambda _, message: stamps.append(message.timestamp()[1])  # noqa: E731
            writer.produce(name, value=raw, partition=partition, on_delivery=told)
        assert writer.flush(20) == 0
        return stamps
