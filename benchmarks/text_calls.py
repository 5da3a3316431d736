"""Many calls to a local server with latency: share of the ideal throughput, memory, and a pace over two processes.

python benchmarks/text_calls.py [throughput] [pace] [memory] [--toy]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)
import numpy as np

from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.modalities.text.client import Answer, Ask
from pe_beam.modalities.text.openai_client import OpenAiClient
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.services.journal import Journal
from pe_beam.storage import open_folder
from tests.modalities.text.server import Served

LATENCY, FLYING, CALLS = 0.2, 64, 5000
PER_MINUTE, MINUTES = 600, 2.5


def _client(url: str, folder: Path, **service: float) -> OpenAiClient:
    options = LlmOptions.model_validate({"model": "tiny", "random": {"user": "x"}, "vary": {"user": "x"}})
    settings = Service.model_validate({"endpoints": [Endpoint(base_url=url, key_env=None)], **service})
    return OpenAiClient(options, Surroundings(iterations=1, service=settings, folder=open_folder(folder)))


def _asks(first: int, count: int) -> list[Ask]:
    message = (("user", "Write a review of a place, about 80 words. " * 4),)
    return [
        Ask(row=i, messages=message, temperature=1.0, top_p=1.0, max_tokens=100, seed=i)
        for i in range(first, first + count)
    ]


def _nothing(_: Ask, __: Answer) -> None:
    return None


def throughput(folder: Path, *, toy: bool) -> None:
    """5,000 calls with 64 in flight; connections are opened before the clock starts."""
    calls, warm = (FLYING, 1) if toy else (CALLS, 2 * FLYING)
    with Served(folder / "log", latency=LATENCY) as server:
        client = _client(server.url, folder / "services", concurrency=FLYING)
        with Journal(open_folder(folder / "warm")) as journal:
            client.answer_all(_asks(10**6, warm), _nothing, journal)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        with Journal(open_folder(folder / "journal")) as journal:
            client.answer_all(_asks(0, calls), _nothing, journal)
        spent = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ideal = calls / FLYING * LATENCY
    print(f"{calls} calls, {FLYING} in flight, {LATENCY:g} s each: {spent:.2f} s, {ideal / spent:.1%} of the ideal")
    print(f"memory grew by {(after - before) / 1024:.1f} MB while they ran")


def _ask_on(url: str, folder: Path, first: int, stop: float) -> None:
    client = _client(url, folder, concurrency=16, requests_per_minute=PER_MINUTE)

    def asks() -> Iterator[Ask]:
        seed = first
        while time.monotonic() < stop:
            yield _asks(seed, 1)[0]
            seed += 1

    with Journal(None) as journal:
        client.answer_all(asks(), _nothing, journal)


def pace(folder: Path, *, toy: bool) -> None:
    """600 requests a minute by two processes, counted where they arrive."""
    with Served(folder / "log", latency=0.05) as server:
        stop = time.monotonic() + (4 if toy else 60 * MINUTES)
        context = multiprocessing.get_context("spawn")
        jobs = [
            context.Process(target=_ask_on, args=(server.url, folder / "services", i * 10**6, stop)) for i in range(2)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        times = np.sort([entry["at"] for entry in server.requests()])
    inside = np.searchsorted(times, times + 60, side="left") - np.arange(len(times))
    used = np.array([count for count, at in zip(inside, times, strict=True) if at + 60 < stop])
    least = used.min() if len(used) else "?"  # a toy sees no whole minute
    print(f"{PER_MINUTE} a minute over two processes: at most {inside.max(initial=0)} in any minute, at least {least}")


def memory(folder: Path, *, toy: bool) -> None:
    """The driver of a run with 20,000 candidates of about 4,000 characters: made, embedded, selected."""
    from pe_beam.driver.loop import evolve
    from pe_beam.recipe.loading import parse_recipe

    samples = 20 if toy else 20_000
    (folder / "private.csv").write_text("text\n" + "\n".join(f"soup number {i}" for i in range(500)) + "\n")
    with Served(folder / "log", words=780) as server:
        recipe = parse_recipe(
            {
                "name": "memory",
                "data": {"source": "csv", "path": str(folder / "private.csv")},
                "modality": "text",
                "generator": {
                    "name": "llm",
                    "model": "tiny",
                    "random": {"user": "Write.", "sampling": {"max_tokens": 800}},
                    "vary": {"user": "{sample}"},
                },
                "embedder": {"name": "hashed-words"},
                "evolution": {"iterations": 1, "samples": samples, "final": "selected", "selection": "rank"},
                "privacy": {"epsilon": 1, "delta": 1e-5},
                "execution": {"llm": {"endpoints": [{"base_url": server.url, "key_env": None}], "concurrency": 64}},
            }
        )
        began = time.monotonic()
        evolve(recipe, folder / "run")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{samples:,} candidates of 4,000 characters: {most:.0f} MB at most, {time.monotonic() - began:.0f} s")


PARTS = {"throughput": throughput, "pace": pace, "memory": memory}


def main() -> None:
    """Measures all, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)}: {', '.join(PARTS)} are wanted")
    with tempfile.TemporaryDirectory() as name:
        for part in options.parts or PARTS:
            own = Path(name) / part
            own.mkdir()
            PARTS[part](own, toy=options.toy)


if __name__ == "__main__":
    main()
