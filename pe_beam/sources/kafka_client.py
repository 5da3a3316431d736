"""Asks a Kafka cluster about a topic, and reads ranges of its offsets. Every call ends in bounded time.

It joins no consumer group and commits no offset: what is read is decided by a window's members alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from pe_beam.errors import DataError, InputError, MissingExtraError, RecipeError, ServiceError
from pe_beam.numbers import Real
from pe_beam.sources.messages import MessageOptions

SERVERS = "bootstrap.servers"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_FREE = re.compile(
    r"(security\.protocol|client\.(id|rack)|group\.id|broker\.address\.family|(sasl|ssl|socket|fetch)\..+)"
)
_SECRET = re.compile(r"password|secret|key\.pem|oauthbearer\.config|assertion|keystore\.key")
_REFUSED = (
    "_AUTHENTICATION",
    "CLUSTER_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "SASL_AUTHENTICATION_FAILED",
    "TOPIC_AUTHORIZATION_FAILED",
    "UNSUPPORTED_VERSION",
    "_UNSUPPORTED_FEATURE",
)
_NO_TOPIC = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_EXCEPTION")
_GONE = ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION")
_WAIT = 0.2
_DRAIN = 1024
Found = TypeVar("Found")


class KafkaOptions(MessageOptions):
    """How the cluster is reached, and what a message is."""

    servers: list[str] = Field(
        default_factory=list,
        description="host:port of some brokers; they name the others; or secrets: bootstrap.servers",
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="settings of librdkafka: security.protocol, sasl.*, ssl.*, socket.*, fetch.*, client.id, group.id",
    )
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="setting -> where its value is: env:VARIABLE or file:PATH; values are never written down",
    )
    patience: Real = Field(
        60.0, ge=1, le=3600, description="seconds without an answer after which a run stops, resumably"
    )

    @model_validator(mode="after")
    def _check(self) -> KafkaOptions:
        if bool(self.servers) == (SERVERS in self.secrets):
            raise ValueError(f"servers: host:port of one broker at least is wanted, here or in secrets ({SERVERS})")
        if any(not re.fullmatch(r"[^\s,/]+:\d{1,5}", server) for server in self.servers):
            raise ValueError("servers: host:port is wanted, without a scheme")
        for name in self.settings:
            if _SECRET.search(name):
                raise ValueError(f"settings: {name} is secret: name env:VARIABLE or file:PATH in secrets")
        if not all(re.fullmatch(r"(env|file):.+", place) for place in self.secrets.values()):
            raise ValueError("secrets: env:VARIABLE or file:PATH is wanted, not a value")
        for name in [*self.settings, *self.secrets]:
            if name != SERVERS and not _FREE.fullmatch(name):
                raise ValueError(
                    f"settings: {name} is not to be set; allowed: security.protocol, sasl.*, ssl.*, socket.*, fetch.*, "
                    "broker.address.family, client.id, client.rack, group.id"
                )
        return self


class Topic:
    """A topic of a cluster, which its methods ask. It can be pickled."""

    def __init__(self, name: str, options: KafkaOptions, key: str = "data.path") -> None:
        """Takes its name, how the cluster is reached, and the recipe key of the name, for messages.

        Raises:
          RecipeError: no topic can have that name.
        """
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise RecipeError(f"{key}: the name of a Kafka topic is wanted (letters, digits, '.', '_', '-')")
        self.name = name
        self.options = options
        self.key = key

    def about(self) -> tuple[str, list[int]]:
        """Returns the id that the cluster gave the topic when it was made, and its partitions.

        Raises:
          InputError: there is no such topic, or it may not be seen.
          ServiceError: the cluster does not answer.
        """

        def ask(admin: Any, within: float) -> Any:
            asked = client_package().TopicCollection([self.name])
            return admin.describe_topics(asked, request_timeout=within)[self.name].result()

        found = self._ask(self._admin, ask)
        return str(found.topic_id), sorted(partition.id for partition in found.partitions)

    def configured(self, *names: str) -> dict[str, str]:
        """Returns settings of the topic, the cluster's defaults included. Raises as `about`."""

        def ask(admin: Any, within: float) -> Any:
            kind = client_package().admin.ConfigResource
            asked = kind(kind.Type.TOPIC, self.name)
            return admin.describe_configs([asked], request_timeout=within)[asked].result()

        found = self._ask(self._admin, ask)
        return {name: str(found[name].value) for name in names}

    def ends(self, partitions: Collection[int], *, decided: bool = False) -> dict[int, tuple[int, int]]:
        """Returns the first offset of each partition that is left, and the offset that comes next. Raises as `about`.

        Args:
          partitions: the partitions.
          decided: whether the first message of the first transaction that is still open counts as what comes next.
        """

        def ask(consumer: Any, within: float) -> dict[int, tuple[int, int]]:
            with contextlib.closing(consumer):
                return {
                    at.partition: consumer.get_watermark_offsets(at, timeout=within, cached=False)
                    for at in self._places(partitions)
                }

        return self._ask(lambda: self._consumer(decided=decided), ask)

    def offsets_at(self, stamp: int, partitions: Collection[int]) -> dict[int, int]:
        """Returns the first offset of each partition with that stamp (ms since 1970) or a later one; -1: there is none.

        Raises as `about`.
        """

        def ask(consumer: Any, within: float) -> dict[int, int]:
            with contextlib.closing(consumer):
                found = consumer.offsets_for_times(self._places(partitions, stamp), timeout=within)
            for at in found:
                if at.error is not None:
                    raise client_package().KafkaException(at.error)
            return {at.partition: at.offset for at in found}

        return self._ask(lambda: self._consumer(decided=False), ask) if partitions else {}

    def _places(self, partitions: Collection[int], *offset: int) -> list[Any]:
        return [client_package().TopicPartition(self.name, partition, *offset) for partition in partitions]

    def _ask(self, made: Callable[[], Any], call: Callable[[Any, float], Found]) -> Found:
        """Calls with a client and the seconds that are left, again and again until there is an answer.

        Each time with a new client, for one that has been told of a change too late keeps what it knows.
        """
        until = time.monotonic() + self.options.patience
        while True:
            try:
                return call(made(), max(1.0, until - time.monotonic()))
            except client_package().KafkaException as error:
                name = error.args[0].name()
            self._refuse(name)
            if time.monotonic() > until:
                raise self._silent(name)
            time.sleep(_WAIT)

    def _admin(self) -> Any:
        return self._client(client_package().admin.AdminClient, {})

    def _client(self, kind: Any, settings: Mapping[str, Any]) -> Any:
        package = client_package()
        secret = {
            name: secret_value(place, f"data.options.secrets.{name}") for name, place in self.options.secrets.items()
        }
        servers = {SERVERS: ",".join(self.options.servers)} if self.options.servers else {}
        given = {**servers, "client.id": "pe_beam", **self.options.settings, **secret}
        try:
            return kind({**given, **settings, "log_level": 0})
        except (package.KafkaException, ValueError, TypeError):  # its message may repeat a value
            raise RecipeError(
                "data.options: the client of Kafka does not take settings and secrets as they are; see the names and "
                "values that librdkafka documents (its wheels have no Kerberos)"
            ) from None

    def _refuse(self, name: str) -> None:
        """Raises InputError for an answer that waiting does not change."""
        if name in _NO_TOPIC:
            raise InputError(f"{self.key}: the cluster has no topic of that name, or may not show it")
        if name in _REFUSED:
            raise InputError(
                f"data.options: the cluster refuses this client ({name}); the rights to describe and read the topic "
                "are wanted, and credentials in settings and secrets"
            )

    def _silent(self, name: str) -> ServiceError:
        """Returns the error for a cluster that does not answer; `name` is what the client library said last."""
        return ServiceError(
            f"data.options.servers: the Kafka cluster has not answered for {self.options.patience:g} seconds ({name}); "
            "nothing is lost: the same command goes on when it answers again"
        )

    def messages(self, partition: int, start: int, stop: int) -> Iterator[Any]:
        """Yields the messages of a partition's offsets from `start` on, before `stop`, in order.

        Offsets that hold no message are left out: markers and messages of transactions, what was aborted, and what
        compaction took.

        Raises:
          DataError: the offsets are no longer there.
          InputError: the client may not read them.
          ServiceError: the cluster does not answer.
        """
        said = ["_TIMED_OUT"]
        with contextlib.closing(self._consumer(said.append)) as consumer:
            consumer.assign(self._places([partition], start))
            heard = time.monotonic()
            while True:
                first = consumer.poll(_WAIT)
                for message in [] if first is None else [first, *consumer.consume(_DRAIN, 0)]:
                    if message.error() is None:
                        heard = time.monotonic()
                        if message.offset() < stop:
                            yield message
                    if self._is_end(message, stop, said):
                        return
                if time.monotonic() - heard > self.options.patience:
                    raise self._silent(said[-1])

    def _consumer(self, told: Callable[[str], None] = lambda _: None, *, decided: bool = True) -> Any:
        """Returns a consumer, which tells the names of faults; if `decided`, it sees committed transactions alone."""
        fixed = {
            "group.id": self.options.settings.get("group.id", "pe_beam"),  # the library wants one; it is never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed" if decided else "read_uncommitted",
            "enable.partition.eof": True,
            "check.crcs": True,
            "queued.max.messages.kbytes": 16384,
            "reconnect.backoff.max.ms": 1000,
            "max.poll.interval.ms": 86_400_000,  # the records of a piece are embedded while it is read
            "error_cb": lambda error: told(error.name()),
        }
        return self._client(client_package().Consumer, fixed)

    def _is_end(self, message: Any, stop: int, said: list[str]) -> bool:
        """Returns whether no message before `stop` follows. Raises for a fault that waiting does not change."""
        fault = message.error()
        if fault is None:
            return bool(message.offset() >= stop - 1)
        name = fault.name()
        if name == "_PARTITION_EOF" and message.offset() >= stop:
            return True
        if name in _GONE:
            raise gone(self.key)
        if name in _REFUSED:
            self._refuse(name)
        said.append(name)
        return False


def secret_value(place: str, where: str) -> str:
    """Returns what an environment variable or a file holds. It is read at each call.

    Args:
      place: env:VARIABLE or file:PATH.
      where: the recipe key, for messages.

    Raises:
      RecipeError: the variable is not set, or the file cannot be read or is empty.
    """
    kind, _, name = place.partition(":")
    if kind == "env":
        found = os.environ.get(name, "").strip()
        if not found:
            raise RecipeError(f"{where}: the environment variable {name} is not set")
        return found
    try:
        found = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise RecipeError(f"{where}: {name!r} cannot be read ({reason})") from None
    if not found:
        raise RecipeError(f"{where}: {name!r} is empty; a value is wanted")
    return found


def gone(key: str) -> DataError:
    """Returns the error for offsets that the topic no longer has."""
    return DataError(
        f"{key}: messages of the window are no longer in the topic (retention or deletion took them, or the topic was "
        "made anew); a retention that outlasts windows and their runs is wanted"
    )


def client_package() -> Any:
    """Returns the client library. Raises MissingExtraError if it is not installed."""
    try:
        import confluent_kafka.admin
    except ImportError:
        raise MissingExtraError(
            "data.source: kafka needs the package confluent-kafka; install pe_beam[kafka]"
        ) from None
    return confluent_kafka
