"""Bad days on the command line: one clear message, the right status, and a run that goes on once it is put right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from tests.modalities.text.recipes import KEY, serve, write_texts
from tests.modalities.text.server import Served


def _run(recipe: dict[str, Any], folder: Path, *more: str) -> int:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return main(["run", str(path), "--run-dir", str(folder / "run"), *more])


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("pe-beam:")][-1]


def test_a_key_that_is_missing_or_wrong_costs_nothing_and_is_put_right(texts, tmp_path, capsys, monkeypatch):
    with Served(tmp_path / "log", key=KEY) as server:
        serve(texts, server)
        monkeypatch.delenv("PE_BEAM_TEST_KEY")
        assert _run(texts, tmp_path) == 2
        assert "execution.llm.endpoints.0.key_env: the environment variable PE_BEAM_TEST_KEY is not set" in _said(
            capsys
        )
        monkeypatch.setenv("PE_BEAM_TEST_KEY", "sk-of-somebody-else")
        assert _run(texts, tmp_path) == 1
        said = _said(capsys)
        assert "the key is not accepted (status 401, invalid_api_key)" in said and "sk-of" not in said
        assert not (tmp_path / "run/ledger.jsonl").exists()
        assert not (tmp_path / "run/private/embeddings").exists(), "no private record was read"
        monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
        assert _run(texts, tmp_path) == 0
        capsys.readouterr()
        assert main(["status", str(tmp_path / "run"), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["services"]["llm"]["calls"] == len(server.requests())
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.encode() not in data, path
            assert b"127.0.0.1" not in data or path.name == "recipe.yaml", path


def test_an_unknown_model_and_a_server_that_is_down(texts, tmp_path, capsys):
    texts["execution"]["llm"]["patience"] = 1
    with Served(tmp_path / "log") as server:
        serve(texts, server)
        texts["generator"]["model"] = "huge"
        assert _run(texts, tmp_path) == 1
        assert "no such model or address (status 404, model_not_found; model 'huge')" in _said(capsys)
        assert not (tmp_path / "run/ledger.jsonl").exists()
    texts["generator"]["model"] = "tiny"
    assert _run(texts, tmp_path) == 2
    assert "it differs in generator.model" in _said(capsys)
    (tmp_path / "other").mkdir()
    assert _run(texts, tmp_path / "other") == 1
    said, named = capsys.readouterr().err, f"execution.llm.endpoints.0: the service at {server.url}"
    assert said.index(f"waiting for {named}; for 1 s at most") < said.index(f"{named} does not answer (no connection)")


def test_a_server_that_goes_away_in_the_middle(texts, tmp_path, capsys):
    texts["execution"]["llm"] |= {"patience": 1, "timeout": 30}
    with Served(tmp_path / "log", dies_after=30) as server:
        assert _run(serve(texts, server), tmp_path) == 1
        assert "execution.llm: no answer for 1 s (no connection); run again once the service answers" in _said(capsys)
        port, answered = server.port, {entry["digest"] for entry in server.requests()}
    with Served(tmp_path / "log2", port=port) as server:
        assert _run(texts, tmp_path) == 0
        again = answered & {entry["digest"] for entry in server.requests()}
        assert len(again) <= 8, "no more than what was in flight as it went"
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 24


def test_prompts_that_are_longer_than_the_context(texts, tmp_path, capsys):
    """The first ones fit, variations do not: parents stand in, and the run ends. None fits: it says so."""
    texts["generator"]["random"]["system"] = "You."
    texts["generator"]["vary"]["user"] = "Fill in, {tone}: {masked} " + "and so on " * 10
    with Served(tmp_path / "log", context=20) as server:
        assert _run(serve(texts, server), tmp_path) == 0
        manifest = json.loads((tmp_path / "run/release/iteration=0001/manifest.json").read_text())
        assert manifest["generation"]["stand_ins"] > 0
        assert set(manifest["generation"]["rejected_answers"]) == {"prompt too long"}
        texts["generator"]["random"]["user"] += "and so on " * 10
        (tmp_path / "other").mkdir()
        assert _run(texts, tmp_path / "other") == 1
        assert "no answer of 24 could be used (prompt too long)" in _said(capsys)
        assert not (tmp_path / "other/run/ledger.jsonl").exists()


def test_a_ceiling_that_is_reached_holds_until_it_is_raised(texts, tmp_path, capsys):
    texts["execution"]["llm"] |= {"patience": 1, "timeout": 30, "ceiling": {"calls": 30}}
    with Served(tmp_path / "log") as server:
        assert _run(serve(texts, server), tmp_path) == 1
        assert "execution.llm.ceiling.calls: the next call could pass it (30 calls" in _said(capsys)
        assert len(server.requests()) == 30
        assert _run(texts, tmp_path) == 1, "the ceiling holds over resumes"
        assert len(server.requests()) == 30
        texts["execution"]["llm"]["ceiling"] = {"calls": 1000}
        assert _run(texts, tmp_path) == 0
        digests = [entry["digest"] for entry in server.requests()]
        assert len(digests) == len(set(digests)), "nothing was paid for twice"
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 24


def test_a_ceiling_of_no_money_makes_no_call(texts, tmp_path, capsys):
    texts["execution"]["llm"] |= {"price": {"input": 1, "output": 1}, "ceiling": {"money": 0}}
    with Served(tmp_path / "log") as server:
        assert _run(serve(texts, server), tmp_path) == 1
        assert "execution.llm.ceiling.money" in _said(capsys)
        assert server.requests() == []


def test_no_privacy_with_a_remote_service_has_to_be_said_in_words(texts, tmp_path, capsys):
    texts["privacy"]["epsilon"] = "inf"
    with Served(tmp_path / "log") as server:
        assert _run(serve(texts, server), tmp_path) == 2
        assert "privacy.send_unprotected: true" in _said(capsys)
        assert not server.requests()
        texts["privacy"]["send_unprotected"] = True
        assert _run(texts, tmp_path) == 0
    assert (tmp_path / "run/release-NOT-PRIVATE").exists()


def test_odd_private_files_and_odd_labels(texts, tmp_path, capsys):
    odd = 'say "hi"\nthen \U0001f600, {x}'
    texts["data"] |= {"labels": ["good", odd], "max_rejects": 0.5}
    texts["generator"]["variables"]["thing"]["values"] = {"good": ["soup"], odd: ["fog"]}
    path = Path(texts["data"]["path"])
    lines = write_texts(path).read_text().replace(",bad", ',"say ""hi""\nthen \U0001f600, {x}"').encode()
    lines += b"too,many,cells\nonly one\n,good\n\xff\xfe not utf-8,good\n" + b"y" * 10_000_000 + b" soup,good\n"
    path.write_bytes(lines)
    with Served(tmp_path / "log") as server:
        assert _run(serve(texts, server), tmp_path) == 0
    assert {odd, "good"} == set(pq.read_table(tmp_path / "run/release/samples.parquet")["label"].to_pylist())
    rejects = [json.loads(line) for file in (tmp_path / "run/private/rejects").iterdir() for line in file.open()]
    assert len(rejects) >= 4
    assert "y" * 100 not in json.dumps(rejects)


def test_answers_with_remarks_and_in_other_languages(texts, tmp_path):
    texts["generator"]["cleaning"] = {"language": "en"}
    with Served(
        tmp_path / "log", text='Sure! Here is the text:\n"El servicio era muy bueno y la sopa estaba fría."'
    ) as s:
        assert _run(serve(texts, s), tmp_path) == 1, "nothing in the wanted language ever came"
    texts["generator"]["cleaning"] = {}
    texts["name"] = "other"
    (tmp_path / "o").mkdir()
    with Served(tmp_path / "log2", text='Here is the text:\n"Good soup." \n\nLet me know if you want more!') as server:
        assert _run(serve(texts, server), tmp_path / "o") == 0
    samples = pq.read_table(tmp_path / "o/run/release/samples.parquet")
    assert set(samples["text"].to_pylist()) == {"Good soup."}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("execution.llm.concurency", 3, "execution.llm.concurency: unknown key; did you mean 'concurrency'"),
        ("execution.llm.endpoints", [{"key": "sk-x"}], "key: unknown key"),
        ("execution.llm.ceiling", {"money": 3}, "ceiling.money: needs a price"),
        ("generator.vary.user", "{sampel}", "{sampel} is not known; allowed: label, thing, tone, sample"),
        ("generator.backend", "other", "generator.backend"),
        ("embedder", {"name": "openai-embeddings", "model": "m", "dimension": 3}, "send_private_records: true"),
    ],
)
def test_a_wrong_key_is_named_by_plan(texts, tmp_path, capsys, key, value, said):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(texts))
    assert main(["plan", str(path), "--set", f"{key}={json.dumps(value)}"]) == 2
    assert said in capsys.readouterr().err


def test_the_plan_says_calls_tokens_money_and_who_is_told(texts, tmp_path, capsys):
    texts["execution"]["llm"] |= {"price": {"input": 10, "output": 30}, "endpoints": [{"base_url": "http://there/v1"}]}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(texts))
    assert main(["plan", str(path), "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert costs["calls"] == 24 * 3
    assert costs["output_tokens"] == 24 * 40 + 48 * 60
    assert costs["money"] == pytest.approx((10 * costs["input_tokens"] + 30 * costs["output_tokens"]) / 1e6)
    assert main(["plan", str(path)]) == 0
    assert "every candidate is sent to http://there/v1: a recipient of the release" in capsys.readouterr().out
