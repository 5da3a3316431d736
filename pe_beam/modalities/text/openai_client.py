"""Back end `openai`: any service with the OpenAI protocol, through the async client of the package `openai`."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pe_beam.contracts.service import Endpoint, Surroundings
from pe_beam.errors import MissingExtraError, PeBeamError, ServiceError
from pe_beam.modalities.text.client import Answer, Ask, Client, OnAnswer
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.modalities.text.refusals import Asked, explained, lists_no_models
from pe_beam.modalities.text.replies import read_answer, read_json
from pe_beam.modalities.text.wordings import Said, one_candidate, said_by
from pe_beam.services.connection import Connection, TransientError, Usage
from pe_beam.services.dispatch import Dispatcher, Lone
from pe_beam.services.journal import Journal
from pe_beam.services.pool import shared_dispatcher

if TYPE_CHECKING:
    import openai

_CONNECTIONS_A_POOL = 8
MOST_BYTES = 1 << 26
"""Of a reply, unpacked; more than the longest text takes with its reasoning, a stream's event for each token."""


def import_openai() -> Any:
    """Returns the package `openai`. Raises MissingExtraError, which names the extra that brings it."""
    try:
        import openai
    except ImportError:
        raise MissingExtraError("generator.backend: openai needs the package openai; install pe_beam[text]") from None
    return openai


class OpenAiClient(Client):
    """Chat completions, or completions if the format is a plain continuation.

    Args:
      options: model, format and content of the body.
      surroundings: the run, with the service's settings.
    """

    def __init__(self, options: LlmOptions, surroundings: Surroundings) -> None:
        import_openai()
        self._options = options
        self._around = surroundings

    def answer_all(self, asks: Iterable[Ask], on_answer: OnAnswer, journal: Journal) -> None:
        """See Client."""
        good: Ask | None = None

        def keep(ask: Ask, answer: Answer) -> Ask | None:
            nonlocal good
            good = ask if answer.finish in ("stop", "length") else good
            if journal.get(ask.key) is None:
                journal.add(ask.key, [answer.text, answer.finish])
            return on_answer(ask, answer)

        def known(ask: Ask) -> Answer | None:
            found = journal.get(ask.key)
            return None if found is None else Answer(*found)

        def canary() -> Ask | None:
            # Another seed: what stands before the service may have kept the answer.
            return None if good is None else replace(good, seed=(good.seed + 1) % 2**31)

        self._dispatcher().ask_all(
            asks,
            size=lambda ask: Usage(ask.prompt_tokens, ask.max_tokens),
            on_answer=keep,
            known=known,
            lone=Lone(canary, Answer("", "failed")),
        )

    def ready(self) -> None:
        """Checks that keys are there, and that every endpoint answers and accepts its key. Generates nothing."""
        service = self._around.service
        for place, endpoint in enumerate(service.endpoints):
            endpoint.key(f"execution.llm.endpoints.{place}")
        # A new dispatcher: this check ends before any other process begins.
        self._dispatcher().probe(min(service.patience, 30.0))

    def _dispatcher(self) -> Dispatcher:
        options = self._options
        return shared_dispatcher(
            self._around.service,
            self._around.folder,
            key="execution.llm",
            about=f"{options.model}|{options.format}|{options.seeded}|{options.token_limit}",
            connect=lambda endpoint, where: _TextLine(endpoint, where, options, self._around.service.concurrency),
        )


def open_client(endpoint: Endpoint, where: str, most_bytes: int = MOST_BYTES) -> openai.AsyncOpenAI:
    """Returns the package's client for an endpoint. It retries nothing (the dispatcher does) and follows no redirect.

    Content may be private, so that it must not go to an address that the recipe does not name. A reply of more than
    `most_bytes` is a TransientError, the cause of the package's own.
    """
    package = import_openai()
    key = endpoint.key(where)
    # All but redirects has the package's defaults: its limits of connections and its time-outs stay.
    hooks = {"response": [_bounded(most_bytes)]}
    http = package.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks=hooks)
    if endpoint.azure_api_version is not None:
        client: openai.AsyncOpenAI = package.AsyncAzureOpenAI(
            azure_endpoint=endpoint.base_url,
            api_version=endpoint.azure_api_version,
            api_key=key,
            max_retries=0,
            http_client=http,
        )
        return client
    client = package.AsyncOpenAI(base_url=endpoint.base_url, api_key=key, max_retries=0, http_client=http)
    return client


def _bounded(most: int) -> Callable[[Any], Awaitable[None]]:
    """Returns a hook that breaks a reply off beyond `most` bytes: it would be in memory several times, and fill it."""

    async def hook(response: Any) -> None:
        whole = response.aiter_bytes

        async def parts() -> AsyncIterator[bytes]:
            size = 0
            async with contextlib.aclosing(whole()) as found:
                async for part in found:
                    size += len(part)
                    if size > most:
                        kind = f"an answer of more than {most >> 20} MiB"
                        raise TransientError(kind, billed=True, unrecognised=True)
                    yield part

        response.aiter_bytes = parts  # the client reads by it

    return hook


class OpenAiLine(Connection):
    """A connection to one endpoint through `openai.AsyncOpenAI`. A subclass defines the requests."""

    def __init__(
        self, endpoint: Endpoint, where: str, *, model: str, concurrency: int, most_bytes: int = MOST_BYTES
    ) -> None:
        # The package's connection pool examines all of its connections on every call, so several small pools cost less.
        pools = -(-concurrency // _CONNECTIONS_A_POOL)
        self._open = [open_client(endpoint, where, most_bytes) for _ in range(pools)]
        self._clients = itertools.cycle(self._open)
        self._model = endpoint.model or model
        self._asked = Asked(where, self._model)

    async def send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """See Connection."""
        try:
            return await asyncio.wait_for(self._send(ask, timeout), timeout + 1)
        except PeBeamError:
            raise
        except Exception as error:
            said = said_by(error)
            spared = None if said is None else self._spared(said)
            if spared is not None:
                return spared, Usage(0, 0)
            raise _fault(error, self._asked) from None

    @abc.abstractmethod
    async def _send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """Makes one call. Raises the package's own errors."""

    @abc.abstractmethod
    def _spared(self, said: Said) -> Any | None:
        """Returns the answer that an error stands for if it belongs to a single ask, else None."""

    async def probe(self) -> None:
        """Asks for the list of models, which costs nothing. A service without such a list is accepted.

        Raises:
          TransientError: the service does not answer, or answers with a web page (`unrecognised`).
          ServiceError: the service does not accept the key, or redirects elsewhere.
        """
        try:
            reply = await asyncio.wait_for(self._client.get("/models", options={"timeout": 10.0}, cast_to=bytes), 11.0)
        except Exception as error:
            said = said_by(error)
            if said is None or not lists_no_models(said):
                raise _fault(error, self._asked) from None
            return
        if reply[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise TransientError("a web page", unrecognised=True)

    async def close(self) -> None:
        """See Connection."""
        for client in self._open:
            await client.close()

    @property
    def _client(self) -> openai.AsyncOpenAI:
        """The next client, in turn."""
        return next(self._clients)


class _TextLine(OpenAiLine):
    """A connection to one endpoint for texts: it takes an Ask and gives an Answer."""

    def __init__(self, endpoint: Endpoint, where: str, options: LlmOptions, concurrency: int) -> None:
        super().__init__(endpoint, where, model=options.model, concurrency=concurrency)
        self._options = options
        limit = options.token_limit if options.format == "chat" else "max_tokens"
        fields = ["temperature", "top_p", "seed", limit, "messages", *options.extra]
        self._asked = Asked(where, self._model, fields, lambda name: _advice(name, options))

    def _spared(self, said: Said) -> Any | None:
        finish = one_candidate(said)
        return None if finish is None else Answer("", finish)

    async def _send(self, ask: Ask, timeout: float) -> tuple[Answer, Usage]:
        """Sends and reads plain JSON. The package's typed requests and answers cost most of a call's processor time."""
        chat = self._options.format == "chat"
        dials = {"temperature": ask.temperature, "top_p": ask.top_p}
        body: dict[str, Any] = {"model": self._model}
        body |= {name: dial for name, dial in dials.items() if name not in ask.left_out}
        body |= {"seed": ask.seed} if self._options.seeded else {}
        if chat:
            body["messages"] = [{"role": role, "content": text} for role, text in ask.messages]
        else:
            body["prompt"] = ask.messages[0][1]
        body |= {self._options.token_limit if chat else "max_tokens": ask.max_tokens, **self._options.extra}
        path = "/chat/completions" if chat else "/completions"
        reply = await self._client.post(path, body=body, options={"timeout": timeout}, cast_to=bytes)
        return read_answer(read_json(reply), ask, chat)


def _advice(name: str, options: LlmOptions) -> str | None:
    """Returns what a recipe can write if a service does not accept a field."""
    if name in options.extra:
        return f"take {name} out of generator.extra, or give another value"
    if name in ("temperature", "top_p"):
        places = (f"generator.{part}.sampling.{name}: null" for part in ("random", "vary"))
        return f"write {' and '.join(places)} to leave it out, or another number"
    if name in ("max_tokens", "max_completion_tokens"):
        other = "max_tokens" if name == "max_completion_tokens" else "max_completion_tokens"
        return f"write generator.token_limit: {other}, or a smaller sampling.max_tokens"
    return {
        "seed": "write generator.seeded: false",
        "stream": "write generator.extra: {stream: true}",
        "messages": "look at the templates; a model without system prompts wants no generator.random.system and no "
        "generator.vary.system",
    }.get(name)


def _fault(error: Exception, asked: Asked) -> Exception:
    """Turns a client's error into a transient error, or into one error with a message that says what to do."""
    own = error if isinstance(error, TransientError) else error.__cause__
    if isinstance(own, TransientError):
        return own
    said = said_by(error)
    if said is not None:
        return explained(said, asked)
    package = import_openai()
    if isinstance(error, package.APITimeoutError | TimeoutError):
        return TransientError("time-out", billed=True)
    if isinstance(error, package.APIConnectionError):
        cause = type(error.__cause__).__name__
        refused = "Connect" in cause and "Timeout" not in cause  # no connection was made, so nothing was asked
        return TransientError("no connection" if refused else "a cut connection", billed=not refused, sent=not refused)
    if isinstance(error, package.APIResponseValidationError):
        return TransientError("an answer that is not JSON", billed=True)
    return ServiceError(f"{asked.where}: the call failed ({type(error).__name__})")
