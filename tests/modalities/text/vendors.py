"""A generator before a server that answers what a test likes, and what its client makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.modalities.text.client import Answer, Ask
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.openai_client import OpenAiClient
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.services.journal import Journal
from pe_beam.storage import open_folder
from tests.modalities.text.hostile import Hostile, Reply

WHY = "They want a text. Let me think."
VALIDATOR = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}


def generator(
    server: Hostile, folder: Path | None = None, *, service: dict[str, Any] | None = None, **more: Any
) -> Llm:
    options = {
        "model": "tiny",
        "random": {"user": "Write.", "sampling": {"max_tokens": 40}},
        "vary": {"user": "{masked}"},
    }
    made = Llm(LlmOptions.model_validate(options | more), labels=["a"])
    endpoints = [Endpoint(base_url=server.url, key_env="PE_BEAM_TEST_KEY")]
    settings = Service(**{"endpoints": endpoints, "concurrency": 2, "timeout": 30, "patience": 5} | (service or {}))
    made.attach(Surroundings(iterations=1, service=settings, folder=None if folder is None else open_folder(folder)))
    return made


def answers(reply: Reply, count: int = 1, **options: Any) -> list[Answer]:
    """What the client makes of a reply."""
    found: list[Answer] = []
    asks = [
        Ask(row=i, messages=(("user", "Write."),), temperature=1.0, top_p=1.0, max_tokens=40, seed=i)
        for i in range(count)
    ]
    with Hostile(lambda *_: reply) as server:
        made = generator(server, service={"patience": 0.3}, **options)
        client = OpenAiClient(made._options, made._around)
        client.answer_all(asks, lambda _, answer: found.append(answer), Journal(None))
        assert len(server.asked) == count, "nothing is asked twice"
    return found


def refusal(message: str, status: int = 400, **more: Any) -> Reply:
    return (
        status,
        {},
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more},
    )
