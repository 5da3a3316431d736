"""Questions of `pe-beam init` about texts: what they are, which model writes them, and its address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam.contracts.asking import Asker, Seen, number


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns sections of a recipe, with prompts after Aug-PE (arXiv 2403.01749): write a text; fill in blanks."""
    del seen
    about = asker.ask("about", "What one text is, in a few public words", default="a short text")
    backend = asker.ask("generator.backend", "Who writes", choices=("openai", "huggingface"), default="openai")
    usual = "gpt-4o-mini" if backend == "openai" else "gpt2"
    model = asker.ask("generator.model", "The model's name at the service, or a local path or hub name", default=usual)
    length = asker.ask("words", "About how many words", parse=number(0, 5000, whole=True), default=80)
    topic = " Its label: {label}." if data.get("labels") else ""
    tokens = max(16, round(length * 2.5))
    generator = {
        "name": "llm",
        "backend": backend,
        "model": model,
        "random": {
            "user": f"Write {about} of about {length} words.{topic} Answer with the text alone.",
            "sampling": {"temperature": 1.2, "max_tokens": tokens},
        },
        "vary": {
            "user": f"Fill in the blanks of this text, so that it reads as {about}.{topic} Answer with the text alone, "
            "about {words} words:\n{masked}",
            "mask_share": "degree",
            "sampling": {"temperature": 1.2, "max_tokens": tokens},
            "words": {"sd": max(1, length // 4), "least": max(1, length // 4)},
        },
    }
    what = "The sentence encoder, a local path or hub name; the default is for English"
    encoder = asker.ask("embedder.model", what, default="sentence-transformers/all-MiniLM-L6-v2")
    own: dict[str, Any] = {
        "generator": generator,
        "embedder": {"name": "sentence-transformers", "model": encoder},
        "evolution": {"selection": "rank", "keep_parents": True, "variations": 3, "degree": 0.5},
    }
    if backend == "openai":
        own["execution"] = _service(asker)
    return own


def _service(asker: Asker) -> dict[str, Any]:
    """Returns the service's address and the ceiling of calls. A key is named by its variable, and never written."""
    asker.say("The service gets to know the synthetic candidates, never the private records.")
    url = asker.ask("base_url", "Its address, such as http://host:8000/v1; none: the client's own", optional=True)
    endpoint = {"base_url": url} if url else {}
    most = number(0, 1e12, whole=True)
    ceiling = asker.ask("execution.llm.ceiling.calls", "Most calls that the run may make", parse=most, default=100_000)
    return {"llm": {"endpoints": [endpoint | {"key_env": "OPENAI_API_KEY"}], "ceiling": {"calls": ceiling}}}
