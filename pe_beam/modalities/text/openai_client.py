"""Back end `openai`: any service that speaks the OpenAI protocol, through the `openai` package's async client."""

from __future__ import annotations

import abc
import asyncio
import email.utils
import itertools
import json
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pe_beam.errors import MissingExtraError, PeBeamError, RefusedError, ServiceError, SpentError
from pe_beam.modalities.base import Surroundings
from pe_beam.modalities.text.client import Answer, Ask, Client, Finish, Settle
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.services.engine import Engine, Line, Passing, Usage
from pe_beam.services.journal import Journal
from pe_beam.services.pool import shared_engine
from pe_beam.services.settings import Endpoint

if TYPE_CHECKING:
    import openai

_CONNECTIONS_A_POOL = 8
_MAY_PASS = (408, 409, 425, 429)
_LONGEST_TEXT = 100_000  # characters of an answer; longer ones are cut, unless more than this was asked for
_CHARACTERS_A_TOKEN = 20  # more than tokens of any language have
_MOST_TOKENS = 10_000_000  # of one call, either way: beyond every model's context
_FINISH: dict[str | None, Finish] = {"length": "length", "content_filter": "filter"}


def import_openai() -> Any:
    """The package `openai`; MissingExtraError names the extra that brings it."""
    try:
        import openai
    except ImportError:
        raise MissingExtraError("generator.backend: openai needs the package openai; install pe_beam[text]") from None
    return openai


class OpenAiClient(Client):
    """Chat completions, or completions where the format is a plain continuation.

    Args:
      options: model, format and what the body holds.
      surroundings: the run, with the service's settings.
    """

    def __init__(self, options: LlmOptions, surroundings: Surroundings) -> None:
        import_openai()
        self._options = options
        self._around = surroundings

    def answer_all(self, asks: Iterable[Ask], settle: Settle, journal: Journal) -> None:
        """See Client."""

        def keep(ask: Ask, answer: Answer) -> Ask | None:
            if journal.get(ask.key) is None:
                journal.add(ask.key, [answer.text, answer.finish])
            return settle(ask, answer)

        def known(ask: Ask) -> Answer | None:
            found = journal.get(ask.key)
            return None if found is None else Answer(*found)

        self._engine().ask_all(
            asks, size=lambda ask: Usage(ask.prompt_tokens, ask.max_tokens), settle=keep, known=known
        )

    def ready(self) -> None:
        """Keys are there, and every endpoint answers and takes its key. Nothing is generated."""
        service = self._around.service
        for place, endpoint in enumerate(service.endpoints):
            endpoint.key(f"execution.llm.endpoints.{place}")
        # A new engine: what is asked here is answered before any other process begins.
        self._engine().greet(min(service.patience, 30.0))

    def _engine(self) -> Engine:
        options = self._options
        return shared_engine(
            self._around.service,
            self._around.folder,
            key="execution.llm",
            about=f"{options.model}|{options.format}|{options.seeded}|{options.token_limit}",
            open_line=lambda endpoint, where: _TextLine(endpoint, where, options, self._around.service.concurrency),
        )


def open_client(endpoint: Endpoint, where: str) -> openai.AsyncOpenAI:
    """The package's client for an endpoint: it makes no retries of its own, the engine does, and follows no redirect.

    What is sent may be private: it goes to no address that the recipe does not name.
    """
    package = import_openai()
    key = endpoint.key(where)
    # The package's own defaults for all but redirects: its limits of connections and its time-outs stay.
    http = package.DefaultAsyncHttpxClient(follow_redirects=False)
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


class OpenAiLine(Line):
    """One endpoint, reached through `openai.AsyncOpenAI`; what is asked there is a subclass's business."""

    def __init__(self, endpoint: Endpoint, where: str, *, model: str, concurrency: int) -> None:
        # The package's connection pool looks at all of its connections on every call: several small pools cost less.
        pools = -(-concurrency // _CONNECTIONS_A_POOL)
        self._clients = itertools.cycle([open_client(endpoint, where) for _ in range(pools)])
        self._where = where
        self._model = endpoint.model or model

    async def send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """See Line."""
        try:
            return await asyncio.wait_for(self._send(ask, timeout), timeout + 1)
        except PeBeamError:
            raise
        except Exception as error:
            spared = self._spared(error)
            if spared is not None:
                return spared, Usage(0, 0)
            raise explained(error, self._where, self._model) from None

    @abc.abstractmethod
    async def _send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """One call, with the package's own errors."""

    @abc.abstractmethod
    def _spared(self, error: Exception) -> Any | None:
        """The answer that an error stands for where it belongs to one ask alone, or None."""

    async def greet(self) -> None:
        """Asks for the list of models, which costs nothing; a service that has none is taken as it is.

        Raises:
          Passing: it does not answer.
          ServiceError: it does not take the key, or redirects elsewhere.
        """
        try:
            await asyncio.wait_for(self._client.get("/models", options={"timeout": 10.0}, cast_to=bytes), 11.0)
        except Exception as error:
            status = getattr(error, "status_code", None)
            if status in (None, 401, 403, 408, 429) or status < 400 or status >= 500:
                raise explained(error, self._where, self._model) from None

    @property
    def _client(self) -> openai.AsyncOpenAI:
        """The next of the clients in turn."""
        return next(self._clients)


class _TextLine(OpenAiLine):
    """One endpoint for texts: an Ask in, an Answer out."""

    def __init__(self, endpoint: Endpoint, where: str, options: LlmOptions, concurrency: int) -> None:
        super().__init__(endpoint, where, model=options.model, concurrency=concurrency)
        self._options = options

    def _spared(self, error: Exception) -> Any | None:
        finish = _one_candidate(error)
        return None if finish is None else Answer("", finish)

    async def _send(self, ask: Ask, timeout: float) -> tuple[Answer, Usage]:
        """Sends and reads plain JSON: the package's typed requests and answers cost most of a call's processor time."""
        chat = self._options.format == "chat"
        body: dict[str, Any] = {"model": self._model, "temperature": ask.temperature, "top_p": ask.top_p}
        body |= {"seed": ask.seed} if self._options.seeded else {}
        if chat:
            body["messages"] = [{"role": role, "content": text} for role, text in ask.messages]
        else:
            body["prompt"] = ask.messages[0][1]
        body |= {self._options.token_limit if chat else "max_tokens": ask.max_tokens, **self._options.extra}
        path = "/chat/completions" if chat else "/completions"
        reply = await self._client.post(path, body=body, options={"timeout": timeout}, cast_to=bytes)
        return _answer(read_json(reply), ask, chat)


def read_json(reply: bytes) -> Any:
    """The body of an answer; what is none may pass, but the service may have done the work."""
    try:
        return json.loads(reply)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise Passing("an answer that is not JSON", billed=True) from None
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        raise Passing("an answer that is not one", billed=True) from None


def _answer(reply: Any, ask: Ask, chat: bool) -> tuple[Answer, Usage]:
    """The answer in a body; a body that is JSON but no answer may pass."""
    try:
        choice = reply["choices"][0]
        holder = choice["message"] if chat else choice
        text = holder["content" if chat else "text"] or ""
        finish = _FINISH.get(choice.get("finish_reason"), "stop")
        refused = chat and holder.get("refusal")
        usage = counted(reply.get("usage"), Usage(ask.prompt_tokens, ask.max_tokens))
    except (AttributeError, LookupError, TypeError):
        raise Passing("an answer that is not one", billed=True) from None
    if not isinstance(text, str):
        raise Passing("an answer that is not one", billed=True)
    longest = max(_LONGEST_TEXT, _CHARACTERS_A_TOKEN * ask.max_tokens)
    if len(text) > longest:
        text, finish = text[:longest], "length"
    return Answer(text, "filter" if refused else finish), usage


def counted(usage: Any, guess: Usage) -> Usage:
    """Tokens as the service counts them; the guess, the most that they can be, where it does not or cannot mean it.

    A count below 0 would lift a ceiling, and one beyond all sense would end the run for good.
    """
    if not isinstance(usage, dict):
        return guess
    sent = _count(usage.get("prompt_tokens"), guess.input_tokens)
    # Embeddings have no tokens that come back, and no count of them.
    received = _count(usage.get("completion_tokens"), guess.output_tokens) if guess.output_tokens else 0
    return guess if sent is None or received is None else Usage(sent, received)


def _count(found: Any, guess: int) -> int | None:
    """A whole number of tokens that one call can take, or None."""
    whole = isinstance(found, int) or (isinstance(found, float) and found.is_integer())
    if isinstance(found, bool) or not whole or not 0 <= found <= max(_MOST_TOKENS, guess):
        return None
    return int(found)


def _code(error: Exception) -> str:
    """The service's own word for an error, never its text, which may repeat a key."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    said = [inner.get("code"), inner.get("type")] if isinstance(inner, dict) else []
    code = getattr(error, "code", None)
    return next((str(word)[:60] for word in [code, *said] if isinstance(word, str) and word), "")


def _one_candidate(error: Exception) -> Finish | None:
    """Errors that belong to one prompt alone."""
    if getattr(error, "status_code", None) not in (400, 413, 422):
        return None
    code = _code(error)
    said = str(getattr(error, "message", ""))[:2000].lower()
    if "content_filter" in code or "content_policy" in code:
        return "filter"
    if "context_length" in code or "maximum context length" in said or "context window" in said:
        return "too long"
    return None


def explained(error: Exception, where: str, model: str) -> Exception:
    """A client's error as a fault that may pass, or as one message that says what to do."""
    if isinstance(error, Passing):
        return error
    package = import_openai()
    if isinstance(error, package.APITimeoutError | TimeoutError):
        return Passing("time-out", billed=True)
    if isinstance(error, package.APIStatusError):
        return _explained_status(error, where, model)
    if isinstance(error, package.APIConnectionError):
        cause = type(error.__cause__).__name__
        refused = "Connect" in cause and "Timeout" not in cause  # no connection was made, so nothing was asked
        return Passing("no connection" if refused else "a cut connection", billed=not refused, sent=not refused)
    if isinstance(error, package.APIResponseValidationError):
        return Passing("an answer that is not JSON", billed=True)
    return ServiceError(f"{where}: the call failed ({type(error).__name__})")


def _explained_status(error: Any, where: str, model: str) -> Exception:
    status, code = error.status_code, _code(error)
    if code in ("insufficient_quota", "billing_hard_limit_reached"):
        return SpentError(
            f"{where}: the provider says that its own quota is used up ({code}); run again once it is not"
        )
    if status in _MAY_PASS or status >= 500:
        # A gateway's time-out is a time-out: what lies behind it may have done the work.
        return Passing(f"status {status}", wait=retry_after(error.response.headers), billed=status in (504, 524))
    said = f"status {status}{', ' + code if code not in ('', str(status)) else ''}"
    if status < 400:
        return RefusedError(
            f"{where}: the service redirects elsewhere (status {status}), and no redirect is followed: nothing goes to "
            "an address that the recipe does not name; correct base_url, and run again"
        )
    if status in (401, 403):
        return RefusedError(f"{where}: the key is not accepted ({said}); check key_env or key_file, and run again")
    if status == 404:
        return RefusedError(f"{where}: no such model or address ({said}; model {model!r}); check base_url and model")
    return RefusedError(f"{where}: the service refuses the request ({said}); check generator and base_url")


def retry_after(headers: Any) -> float | None:
    """Seconds that a service asks to wait, as seconds, milliseconds or a date; None if it does not say."""
    for name, read in (("retry-after-ms", _milliseconds), ("retry-after", _seconds_or_date)):
        try:
            seconds = read(headers[name])
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _milliseconds(value: str) -> float:
    return float(value) / 1000


def _seconds_or_date(value: str) -> float:
    if value.replace(".", "", 1).strip().isdigit():
        return float(value)
    return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
