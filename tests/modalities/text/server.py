"""A server that speaks the OpenAI protocol over real sockets, with faults on demand and a log of every request.

It runs in its own process (`python -m tests.modalities.text.server`, or `Served` below). What it answers is a
function of the request's body alone; which fault a request meets, of seed, body and how often that body has come.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TEXT = (
    "the a good bad fine slow quick warm cold staff room food coffee night city small large clean loud kind price "
    "service table window street music morning soup bread garden visit again never always very quite rather was is"
)
WORDS = _TEXT.split()


@dataclasses.dataclass(kw_only=True)
class Behaviour:
    """How a server behaves. Rates are shares of requests."""

    latency: float = 0.0
    key: str | None = None
    models: tuple[str, ...] = ("tiny",)
    context: int = 4000  # words of a prompt
    seed: int = 0
    busy: float = 0.0  # 429 with Retry-After
    retry_after: str = "0.2"
    broken: float = 0.0  # 500
    hung: float = 0.0  # no answer within any time-out
    filtered: float = 0.0
    no_json: float = 0.0
    cut: float = 0.0  # the connection ends in the middle of the body
    status: int | None = None  # every request
    text: str | None = None  # every answer
    words: int | None = None  # words of every answer
    dies_after: int | None = None  # requests; then the process is gone
    azure: str | None = None  # the deployment: paths, api-version, api-key header and errors as Azure OpenAI has them
    bare: bool = False  # as small local servers: no id, no usage, finish_reason null, no list of models

    def fault(self, digest: str, turn: int) -> str | None:
        """The fault that the nth request of this body meets."""
        draw = random.Random(f"{self.seed}/{digest}/{turn}").random()
        for name in ("busy", "broken", "hung", "no_json", "cut"):
            draw -= getattr(self, name)
            if draw < 0:
                return name
        refused = random.Random(f"{self.seed}/{digest}/filtered").random()  # a filter does not change its mind
        return "filtered" if refused < self.filtered else None


def invented(body: dict[str, Any]) -> str:
    """Words that follow from the body alone; blanks of the last message are filled, else 5 to 30 words are made."""
    prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    rng = random.Random(json.dumps(body, sort_keys=True))
    if "_" in prompt.split():
        return " ".join(rng.choice(WORDS) if word == "_" else word for word in prompt.split())
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 30))).capitalize() + "."


class Server:
    """The protocol: chat completions, completions, embeddings, models, usage and errors."""

    def __init__(self, behaviour: Behaviour, answer: Callable[[dict[str, Any]], str], log: Path | None) -> None:
        self.behaviour = behaviour
        self._answer = answer
        self._log = None if log is None else log.open("a")
        self._turns: collections.Counter[str] = collections.Counter()

    async def serve(self, port: int, told: Callable[[int], None]) -> None:
        listener = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=1 << 24, backlog=1024)
        told(listener.sockets[0].getsockname()[1])
        async with listener:
            await listener.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                data = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._reply(first.split()[1], headers, data, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, path: str, headers: dict[str, str], data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False: the connection ends here."""
        began = time.monotonic()
        if data and self.behaviour.dies_after is not None and self._turns.total() >= self.behaviour.dies_after:
            os._exit(9)
        digest = hashlib.sha256(data).hexdigest()[:32]
        status, extra, body, outcome = await self._content(path, headers, data, digest)
        if data:
            self._note(digest, outcome, began)
        text = json.dumps(body).encode() if not isinstance(body, bytes) else body
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(text)}", *extra]
        whole = ("\r\n".join(lines) + "\r\n\r\n").encode() + text
        if outcome == "cut":
            writer.write(whole[: len(whole) - len(text) // 2])
            await writer.drain()
            return False
        writer.write(whole)
        await writer.drain()
        return True

    def _note(self, digest: str, outcome: str, began: float) -> None:
        if self._log is not None:
            self._log.write(json.dumps({"at": began, "digest": digest, "outcome": outcome}) + "\n")
            self._log.flush()

    async def _content(
        self, path: str, headers: dict[str, str], data: bytes, digest: str
    ) -> tuple[int, list[str], Any, str]:
        """Status, further headers, body, and what the log calls it."""
        how = self.behaviour
        refused = _refusal(how, path, headers, data)
        if refused is not None:
            return refused
        path = path.partition("?")[0]
        if path.endswith("/models"):
            return _models(how)
        await asyncio.sleep(how.latency)
        if how.status is not None:
            return how.status, [], _error("as asked", "asked_for"), str(how.status)
        turn = self._turns[digest]
        self._turns[digest] += 1
        fault = how.fault(digest, turn)
        if fault == "busy":
            return 429, [f"Retry-After: {how.retry_after}"], _error("slow down", "rate_limit_exceeded"), "busy"
        if fault == "broken":
            return 500, [], _error("oh no", "server_error"), "broken"
        if fault == "hung":
            self._note(digest, fault, time.monotonic())
            await asyncio.sleep(3600)
        return self._answered(path, json.loads(data), fault)

    def _answered(self, path: str, request: dict[str, Any], fault: str | None) -> tuple[int, list[str], Any, str]:
        how = self.behaviour
        if how.azure is None and request["model"] not in how.models:
            return 404, [], _error("no such model", "model_not_found"), "404"
        if path.endswith("/embeddings"):
            return 200, [], _embeddings(request), "ok"
        texts = [m["content"] for m in request["messages"]] if "messages" in request else [request["prompt"]]
        if sum(len(text.split()) for text in texts) > how.context:
            long = f"This model's maximum context length is {how.context} tokens."
            return 400, [], _error(long, "context_length_exceeded"), "too long"
        if fault == "filtered" and how.azure is not None and self._turns.total() % 2:
            return 400, [], _azure_filter(), "filtered"
        if fault == "filtered" and how.azure is not None:
            body, _ = self._completion(path, request, None)
            body["choices"][0] |= {"finish_reason": "content_filter", "message": {"role": "assistant"}}
            return 200, [], body, "filtered"
        return 200, [], *self._completion(path, request, fault)

    def _completion(self, path: str, request: dict[str, Any], fault: str | None) -> tuple[Any, str]:
        chat = path.endswith("/chat/completions")
        texts = [m["content"] for m in request["messages"]] if chat else [request["prompt"]]
        sent = sum(len(text.split()) for text in texts)
        text = self.behaviour.text if self.behaviour.text is not None else self._answer(request)
        if self.behaviour.words is not None:
            rng = random.Random(text + str(request.get("seed")))
            text = " ".join(rng.choices(WORDS, k=self.behaviour.words))
        limit = request.get("max_tokens") or request.get("max_completion_tokens") or 16
        words = text.split(" ")
        finish = "length" if len(words) > limit else "stop"
        text = " ".join(words[:limit])
        if fault == "filtered" and self.behaviour.azure is None:
            text, finish = "", "content_filter"
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        body = {
            "id": "c",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": request["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": sent,
                "completion_tokens": len(text.split()),
                "total_tokens": sent + len(text.split()),
            },
        }
        if self.behaviour.bare:
            choice["finish_reason"] = None
            for name in ("id", "created", "usage", "model"):
                del body[name]
        if fault == "no_json":
            return json.dumps(body).encode()[:-7], "no_json"
        return body, fault or "ok"


def _refusal(how: Behaviour, path: str, headers: dict[str, str], data: bytes) -> tuple[int, list[str], Any, str] | None:
    if how.azure is not None:
        return _azure_refusal(how, path, headers, json.loads(data) if data else {})
    if how.key is not None and headers.get("authorization") != f"Bearer {how.key}":
        wrong = f"Incorrect API key provided: {headers.get('authorization', '')}"
        return 401, [], _error(wrong, "invalid_api_key"), "401"
    return None


def _models(how: Behaviour) -> tuple[int, list[str], Any, str]:
    if how.bare:
        return 404, [], b"404 page not found", "models"
    return 200, [], {"object": "list", "data": [{"id": name, "object": "model"} for name in how.models]}, "models"


def _azure_refusal(
    how: Behaviour, path: str, headers: dict[str, str], request: dict[str, Any]
) -> tuple[int, list[str], Any, str] | None:
    """What Azure says to a wrong key, version or deployment; None where all is well. The newer /openai/v1 path too."""
    if how.key is not None and how.key not in (headers.get("api-key"), headers.get("authorization", "")[7:]):
        wrong = {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}
        return 401, [], {"error": wrong}, "401"
    where, _, query = path.partition("?")
    if where.startswith("/openai/v1/"):
        named = request.get("model", how.azure)
    else:
        if "api-version=" not in query:
            return 404, [], {"error": {"code": "404", "message": "Resource not found"}}, "404"
        if where == "/openai/models":
            return None
        named = where.removeprefix("/openai/deployments/").partition("/")[0]
    if named != how.azure:
        gone = {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}
        return 404, [], {"error": gone}, "404"
    return None


def _azure_filter() -> dict[str, Any]:
    """A prompt that Azure's filter refuses: status 400."""
    inner = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
    }
    said = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
    return {
        "error": {"message": said, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
        | {"innererror": inner}
    }


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "test", "param": None, "code": code}}


def _embeddings(request: dict[str, Any]) -> dict[str, Any]:
    data = []
    for index, text in enumerate(request["input"]):
        rng = random.Random(text)
        data.append({"object": "embedding", "index": index, "embedding": [rng.gauss(0, 1) for _ in range(8)]})
    return {
        "object": "list",
        "data": data,
        "model": request["model"],
        "usage": {"prompt_tokens": 3 * len(data), "total_tokens": 3 * len(data)},
    }


class Served:
    """A server in its own process, for the length of a `with`."""

    def __init__(
        self,
        log: Path,
        *,
        port: int = 0,
        command: tuple[str, ...] = ("tests.modalities.text.server",),
        python: str | Path = sys.executable,
        **behaviour: Any,
    ) -> None:
        self.log = log
        self.port = port
        self._command = [str(python), "-m", *command]
        self._behaviour = behaviour

    def __enter__(self) -> Served:
        command = [*self._command, "--port", str(self.port), "--log", str(self.log)]
        command += ["--behaviour", json.dumps(self._behaviour)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("port "), said
        self.port = int(said.split()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def requests(self) -> list[dict[str, Any]]:
        """What came, in order; not a line that the server is still writing."""
        if not self.log.exists():
            return []
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


def main(argv: list[str], make: Callable[[], Callable[[dict[str, Any]], str]] = lambda: invented) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--behaviour", type=json.loads, default={})
    options = parser.parse_args(argv)
    server = Server(Behaviour(**options.behaviour), make(), options.log)
    asyncio.run(server.serve(options.port, lambda port: print(f"port {port}", flush=True)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
