"""Many runs in one process, as a stream or a notebook makes them: nothing of a run stays behind."""

from __future__ import annotations

import collections
import copy
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

import pe_beam
from pe_beam.driver.loop import evolve
from pe_beam.errors import PeBeamError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.services.dispatch import Dispatcher
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served
from tests.modalities.text.tiny_gpt2 import save_tiny_gpt2
from tests.open_files import open_files


def _open() -> collections.Counter[str]:
    """The threads and the open files of this process."""
    gc.collect()
    return open_files() + collections.Counter(f"thread {each.native_id}" for each in threading.enumerate())


def _recipe(texts: dict[str, Any], server: Served) -> dict[str, Any]:
    """Texts are written and embedded by a service, at a rate."""
    texts["embedder"] = {"name": "openai-embeddings", "model": "tiny", "dimension": 8, "send_private_records": True}
    texts["evolution"] |= {"iterations": 1, "samples": 12}
    made = serve(texts, server)
    made["execution"]["llm"] |= {"requests_per_minute": 30000}
    made["execution"]["embeddings"] = copy.deepcopy(made["execution"]["llm"])
    return made


@pytest.mark.parametrize("where", ["{}/runs", "memory://many"])
def test_a_run_leaves_no_thread_and_no_connection(texts: dict[str, Any], tmp_path: Path, where: str) -> None:
    """A stream makes a run a window for months: it would end at the limit of open files."""
    found, before = [], _open()  # what earlier tests have left in this process may end at any time
    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(_recipe(texts, server))
        for place in range(7):  # the last four runs are kept, with the files that they append to
            evolve(recipe, f"{where.format(tmp_path)}/{place}")
            found.append((_open() - before).total())
    assert found[-1] <= found[-2]


def test_an_interrupt_stays_one_and_the_run_goes_on(
    texts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a notebook's stop comes while the service is waited for, in the thread that runs Beam's job."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(_recipe(texts, server) | {"embedder": {"name": "hashed-words", "dimension": 64}})
        with monkeypatch.context() as patch:
            patch.setattr(Dispatcher, "ask_all", stop)
            with pytest.raises(KeyboardInterrupt):
                evolve(recipe, tmp_path / "run")
        assert not list((tmp_path / "run").glob("private/errors/*"))
        assert evolve(recipe, tmp_path / "run").store.exists("release/samples.parquet")


def test_a_run_that_fails_leaves_none_either_and_goes_on(texts: dict[str, Any], tmp_path: Path) -> None:
    before = {*threading.enumerate()}
    with Served(tmp_path / "log") as server:
        recipe = _recipe(texts, server) | {"embedder": {"name": "hashed-words", "dimension": 64}}
        recipe["execution"]["llm"]["ceiling"] = {"calls": 17}
        with pytest.raises(PeBeamError, match=r"ceiling\.calls"):
            evolve(parse_recipe(recipe), tmp_path / "run")
        assert not {*threading.enumerate()} - before
        recipe["execution"]["llm"]["ceiling"] = {"calls": 1000}
        evolve(parse_recipe(recipe), tmp_path / "run")
        asked = [entry["digest"] for entry in server.requests()]
    assert len(asked) == len(set(asked)), "nothing was asked for twice"


def test_free_memory_lets_go_of_a_run_s_models_and_the_next_run_loads_them_again(
    texts: dict[str, Any], tmp_path: Path
) -> None:
    def models() -> int:
        gc.collect()
        return sum(type(each).__name__ == "GPT2LMHeadModel" for each in gc.get_objects())

    words = {"user": "{label}", "sampling": {"max_tokens": 4}}
    texts["generator"] = {
        "name": "llm",
        "backend": "huggingface",
        "model": save_tiny_gpt2(tmp_path / "gpt2", ["good", "bad", "soup"]),
        "random": words,
        "vary": words | {"user": "{masked}", "mask_share": 0.5},
    }
    texts["evolution"] |= {"iterations": 1, "samples": 4}
    del texts["execution"]
    recipe = parse_recipe(texts)
    pe_beam.free_memory()
    before = models()
    evolve(recipe, tmp_path / "one")
    assert models() == before + 1
    pe_beam.free_memory()
    assert models() == before
    evolve(recipe, tmp_path / "two")
