"""Azure OpenAI, Ollama and llama.cpp differ from OpenAI: the real client meets a server that answers as each does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.errors import ServiceError
from pe_beam.modalities.text.remote_embedder import RemoteEmbedder, RemoteOptions
from pe_beam.storage import open_folder
from tests.modalities.text.recipes import KEY
from tests.modalities.text.server import Served

VERSION = "2024-10-21"


def _endpoint(server: Served, kind: str) -> dict[str, Any]:
    root = server.url.removesuffix("/v1")
    if kind == "deployments":
        return {"base_url": root, "azure_api_version": VERSION, "key_env": "PE_BEAM_TEST_KEY", "model": "my-gpt"}
    return {"base_url": f"{root}/openai/v1/", "key_env": "PE_BEAM_TEST_KEY", "model": "my-gpt"}


def _run(recipe: dict[str, Any], folder: Path) -> int:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return main(["run", str(path), "--run-dir", str(folder / "run")])


@pytest.mark.parametrize("kind", ["deployments", "v1"])
def test_azure_whole_with_a_filter_that_costs_one_candidate(texts, tmp_path, kind):
    with Served(tmp_path / "log", key=KEY, azure="my-gpt", filtered=0.2) as server:
        texts["execution"]["llm"]["endpoints"] = [_endpoint(server, kind)]
        assert _run(texts, tmp_path) == 0
        outcomes = [entry["outcome"] for entry in server.requests()]
    assert set(outcomes) == {"ok", "filtered"}
    manifest = json.loads((tmp_path / "run/release/iteration=0000/manifest.json").read_text())
    assert manifest["generation"]["rejected_answers"]["filtered"] >= 1
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 24


@pytest.mark.parametrize("kind", ["deployments", "v1"])
def test_azure_with_a_wrong_key_or_deployment(texts, tmp_path, kind, capsys, monkeypatch):
    with Served(tmp_path / "log", key=KEY, azure="my-gpt") as server:
        endpoint = _endpoint(server, kind)
        texts["execution"]["llm"]["endpoints"] = [endpoint | {"model": "other-gpt"}]
        assert _run(texts, tmp_path) == 1
        assert "no such model or address (status 404, DeploymentNotFound; model 'other-gpt')" in capsys.readouterr().err
        texts["execution"]["llm"]["endpoints"] = [endpoint]
        monkeypatch.setenv("PE_BEAM_TEST_KEY", "of-somebody-else")
        assert _run(texts, tmp_path) == 1
        said = capsys.readouterr().err
        assert "the key is not accepted (status 401)" in said and "of-somebody" not in said
        monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
        assert _run(texts, tmp_path) == 0


@pytest.mark.parametrize("kind", ["deployments", "v1"])
def test_azure_embeddings(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
    with Served(tmp_path / "log", key=KEY, azure="my-gpt") as server:
        service = Service(endpoints=[Endpoint(**_endpoint(server, kind))])
        embedder = RemoteEmbedder(RemoteOptions(model="m", dimension=8, send_private_records=True))
        embedder.attach(Surroundings(iterations=1, service=service, folder=open_folder(tmp_path / "services")))
        embedder.ready()
        vectors = embedder.embed(pa.table({"text": ["one", "two"]})).vectors
        assert vectors.shape == (2, 8) and np.abs(vectors).min() > 0
        monkeypatch.setenv("PE_BEAM_TEST_KEY", "wrong")
        again = RemoteEmbedder(RemoteOptions(model="m", dimension=8, send_private_records=True))
        again.attach(Surroundings(iterations=1, service=service, folder=open_folder(tmp_path / "others")))
        with pytest.raises(ServiceError, match="key is not accepted"):
            again.ready()


def test_a_small_local_server_without_ids_usage_models_and_keys(texts, tmp_path, capsys):
    """As Ollama and llama.cpp can be: what is not said is guessed, and counted as the guess."""
    with Served(tmp_path / "log", bare=True) as server:
        texts["execution"]["llm"]["endpoints"] = [{"base_url": server.url, "key_env": None}]
        assert _run(texts, tmp_path) == 0
        calls = len(server.requests())
    capsys.readouterr()
    assert main(["status", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["services"]["llm"]
    assert told["calls"] == calls
