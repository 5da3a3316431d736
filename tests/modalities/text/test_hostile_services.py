"""Services that are broken or mean harm: no sleep beyond patience, no free calls, no other address, no brick."""

from __future__ import annotations

import collections
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.service import Ceiling, Endpoint, Price, Service, Surroundings
from pe_beam.errors import RecipeError, ServiceError, SpentError, StorageError
from pe_beam.modalities.text.client import Answer, Ask
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.openai_client import MOST_BYTES, OpenAiClient
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.modalities.text.remote_embedder import RemoteEmbedder, RemoteOptions
from pe_beam.modalities.text.replies import counted
from pe_beam.services.account import Account
from pe_beam.services.connection import Usage
from pe_beam.services.journal import Journal
from pe_beam.services.pauses import retry_after
from pe_beam.services.record import Cost, read_totals
from pe_beam.storage import open_folder
from tests.modalities.text.asking import make, make_table, spent
from tests.modalities.text.hostile import Hostile, chat

pytestmark = pytest.mark.usefixtures("key_is_set")

YEAR = 31_536_000


def _generator(*servers: Hostile, folder: Path | None = None, max_tokens: int = 40, **service: Any) -> Llm:
    options = {"model": "tiny", "random": {"user": "Write a {label} text.", "sampling": {"max_tokens": max_tokens}}}
    options["vary"] = {"user": "{masked}"}
    made = Llm(LlmOptions.model_validate(options), labels=["a"])
    endpoints = [Endpoint(base_url=server.url, key_env="PE_BEAM_TEST_KEY") for server in servers]
    settings = Service(**{"endpoints": endpoints, "concurrency": 4, "timeout": 30, "patience": 1} | service)
    made.attach(Surroundings(iterations=1, service=settings, folder=None if folder is None else open_folder(folder)))
    return made


# Patience.


@pytest.mark.parametrize("endpoints", [1, 2])
def test_a_pause_of_a_year_ends_with_patience(tmp_path, endpoints):
    busy = (429, {"Retry-After": str(YEAR)}, {"error": {}})
    healthy: list[int] = []
    with Hostile(lambda _, __, n: (200, {}, chat(n)) if healthy else busy) as server:
        generator = _generator(*[server] * endpoints, folder=tmp_path)
        began = time.monotonic()
        with pytest.raises(
            ServiceError, match=rf"no answer for 1 s \(status 429; it asks to wait {YEAR} s\); run again"
        ):
            make(generator)
        assert time.monotonic() - began < 45
        healthy.append(1)
        assert len(make(generator)) == 12, "who runs again asks again"


def test_a_pause_within_patience_is_kept(tmp_path):
    came: list[float] = []

    def reply(_: str, __: Any, number: int) -> Any:
        came.append(time.monotonic())
        return (429, {"Retry-After": "1"}, {"error": {}}) if number == 0 else (200, {}, chat(number))

    with Hostile(reply) as server:
        assert len(make(_generator(server, concurrency=1, patience=20), 1)) == 1
    assert 1 <= came[1] - came[0] < 15  # on a busy machine as well


def test_one_of_two_endpoints_in_a_long_pause_stops_nothing(tmp_path):
    with (
        Hostile(lambda *_: (429, {"Retry-After": str(YEAR)}, {"error": {}})) as busy,
        Hostile(lambda _, __, n: (200, {}, chat(n))) as well,
    ):
        assert len(make(_generator(busy, well, patience=30), 40)) == 40
        assert len(busy.asked) <= 8


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("fault", [(500, {}, {"error": {}}), (200, {}, b'{"choices": [')], ids=["500", "cut"])
def test_one_of_two_endpoints_that_always_fails_stops_nothing(fault, place):
    """It answers faster than the other one, and so is the next one to be asked, again and again."""

    def answer(_: str, __: Any, number: int) -> Any:
        time.sleep(0.05)
        return 200, {}, chat(number)

    with Hostile(lambda *_: fault) as ill, Hostile(answer) as well:
        servers = [well, ill] if place else [ill, well]
        assert len(make(_generator(*servers, patience=40), 40)) == 40
        assert len(ill.asked) <= 12


def test_an_ask_that_an_endpoint_fails_on_is_asked_of_another_one():
    """It fails on every fifth text, at once, and answers the others faster than the other endpoint."""
    failed: collections.Counter[int] = collections.Counter()

    def most(_: str, body: dict[str, Any], __: int) -> Any:
        seed = body["seed"]
        failed[seed] += seed % 5 == 0
        return (200, {}, chat(seed)) if seed % 5 else (500, {}, {"error": {}})

    def other(_: str, body: dict[str, Any], __: int) -> Any:
        time.sleep(0.3)  # longer than the first one takes where others keep the machine busy
        return 200, {}, chat(body["seed"])

    with Hostile(most) as one, Hostile(other) as two:
        assert len(make(_generator(one, two, patience=10, concurrency=1), 30)) == 30
    assert failed.total() > 1 and max(failed.values()) == 1, "no text goes where it has just failed"


@pytest.mark.parametrize(
    ("endpoints", "fault"), [(1, (500, {}, {"error": {}})), (2, (200, {}, b'{"choices": ['))], ids=["500", "cut"]
)
def test_a_prompt_that_the_service_always_fails_on_costs_its_candidate_alone(tmp_path, endpoints, fault):
    asked: collections.Counter[int] = collections.Counter()
    poison: set[int] = set()

    def reply(_: str, body: dict[str, Any], number: int) -> Any:
        asked[body["seed"]] += 1
        return fault if body["seed"] in poison else (200, {}, chat(number))

    with Hostile(reply) as server:
        make(_generator(server, folder=tmp_path / "well"))
        usual = set(asked)
        poison.update(sorted(usual)[:2])
        asked.clear()
        generator = _generator(*[server] * endpoints, folder=tmp_path / "ill", patience=3)
        made = make_table(generator)
        canaries = {seed: times for seed, times in asked.items() if seed not in usual}
        assert sum(canaries.values()) == 2, "asks of other seeds show that it is up"
        assert all(asked[seed] >= 3 if seed in poison else asked[seed] == 1 for seed in usual)
    assert generator.summary(made) == {"rejected_answers": {"service failed": 2}, "stand_ins": 2}


def test_a_service_that_fails_on_all_prompts_of_a_while_stops_the_run(tmp_path):
    """It had answered before: the canary dies as well, and no candidate is given up."""

    def reply(_: str, __: Any, number: int) -> Any:
        return (200, {}, chat(number)) if number < 6 else (500, {}, {"error": {}})

    with Hostile(reply) as server, pytest.raises(ServiceError, match=r"no answer for 1 s \(status 500\); run again"):
        make(_generator(server, folder=tmp_path))
    assert not any("failed" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_nobody_sleeps_on_once_the_run_is_to_stop(tmp_path):
    """One call is refused while others are in a pause of 60 s."""

    def reply(_: str, __: Any, number: int) -> Any:
        if number < 3:
            return 429, {"Retry-After": "60"}, {"error": {}}
        return 400, {}, {"error": {"code": "bad"}}

    with Hostile(reply) as server:
        began = time.monotonic()
        with pytest.raises(ServiceError, match="refuses the request"):
            make(_generator(server, patience=100))
        assert time.monotonic() - began < 45


def test_nobody_waits_for_a_slow_pace_once_the_run_is_to_stop():
    with Hostile(lambda *_: (401, {}, {"error": {}})) as server:
        began = time.monotonic()
        with pytest.raises(ServiceError, match="key is not accepted"):
            make(_generator(server, requests_per_minute=1))  # a minute each
        assert time.monotonic() - began < 45


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After-ms": "nan"},
        {"Retry-After-ms": "inf"},
        {"Retry-After-ms": "0"},
        {"Retry-After": "0"},
        {"Retry-After": "-5"},
        {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
    ],
)
def test_a_pause_that_is_none_leaves_the_back_off(headers):
    with Hostile(lambda *_: (429, headers, {"error": {}})) as server:
        with pytest.raises(ServiceError, match=r"no answer for 1 s \(status 429\)"):
            make(_generator(server))
        assert len(server.asked) < 60


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-5", "1e999", "9" * 400, "²", "①s", "Mon, 01 Jan 9" + "9" * 19 + " 00:00:00 GMT"]
)
def test_only_a_finite_number_is_a_pause(value):
    assert retry_after({"retry-after-ms": value}) is None
    assert retry_after({"retry-after": value}) is None
    assert retry_after({"retry-after-ms": value, "retry-after": "3"}) == 3


def test_greeting_says_what_the_service_asks_for():
    busy = (429, {"Retry-After": str(YEAR)}, {"error": {}})
    with Hostile(lambda *_: busy, models=busy) as server:
        began = time.monotonic()
        with pytest.raises(ServiceError, match=rf"does not answer \(status 429; it asks to wait {YEAR} s\)"):
            _generator(server).ready()
        assert time.monotonic() - began < 45
        assert len(server.asked) == 2


# Usage.


@pytest.mark.parametrize(
    "wrong",
    [-1, -100000, "5", True, None, 0.5, float("inf"), float("nan"), [5], {"a": 1}, 10**7 + 1, 10**4000],
    ids=range(12),
)
def test_a_count_that_is_none_is_the_guess(wrong):
    guess = Usage(7, 40)
    assert counted({"prompt_tokens": wrong, "completion_tokens": 5}, guess) == guess
    assert counted({"prompt_tokens": 5, "completion_tokens": wrong}, guess) == guess


def test_a_count_that_is_one():
    assert counted({"prompt_tokens": 5.0, "completion_tokens": 10**7}, Usage(7, 40)) == Usage(5, 10**7)
    assert counted({"prompt_tokens": 5}, Usage(7, 0)) == Usage(5, 0)
    assert counted({"prompt_tokens": 10**8, "completion_tokens": 1}, Usage(10**8, 40)) == Usage(10**8, 1)
    assert counted([1, 2], Usage(7, 40)) == Usage(7, 40)


def test_usage_below_nothing_lifts_no_ceiling(tmp_path):
    usage = {"prompt_tokens": -100000, "completion_tokens": -5}
    price = Price(input=1, output=1)
    with Hostile(lambda _, __, n: (200, {}, chat(n, usage=usage))) as server:
        generator = _generator(server, folder=tmp_path, price=price, ceiling=Ceiling(tokens=500))
        with pytest.raises(SpentError):
            make(generator, 100)
        assert len(server.asked) < 12
    assert 400 < spent(tmp_path)["input"] + spent(tmp_path)["output"] <= 500


def test_usage_of_4290_digits_bricks_nothing(texts, tmp_path, capsys):
    def reply(_: str, __: Any, number: int) -> Any:
        body = json.dumps(chat(number, usage={"prompt_tokens": 777777, "completion_tokens": 777777}))
        return 200, {}, body.replace("777777", "9" * 4290).encode()

    with Hostile(reply) as server:
        texts["execution"]["llm"] |= {"price": {"input": 1, "output": 1}, "ceiling": {"money": 20}}
        texts["execution"]["llm"]["endpoints"] = [{"base_url": server.url, "key_env": "PE_BEAM_TEST_KEY"}]
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(texts))
        assert main(["run", str(tmp_path / "r.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path / "run")]) == 0
    account = tmp_path / "run/work/services/llm/account.json"
    account.write_text(account.read_text()[:40])
    assert main(["status", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert f"{account}: is damaged" in said and "put back a copy of it, or delete it" in said


@pytest.mark.parametrize("path", ["input", "money"])
@pytest.mark.parametrize("number", [-1, 10**4000, 1.5, True, "7", None], ids=range(6))
def test_numbers_in_an_account_that_cannot_be(tmp_path, path, number):
    (tmp_path / "account.json").write_text(json.dumps({"version": 1, "spent": {path: number}, "held": {}}))
    for read in (lambda: read_totals(open_folder(tmp_path)), Account(open_folder(tmp_path), Service()).spent):
        with pytest.raises(StorageError, match=r"account\.json: is damaged"):
            read()


def test_an_account_that_many_killed_processes_have_left_stays_within_its_record(tmp_path):
    held = {f"{i}-{'0' * 12}": {"calls": 1, "input": 500, "output": 500, "money": 10**12} for i in range(170)}
    (tmp_path / "account.json").write_text(json.dumps({"version": 1, "spent": {}, "held": held}))
    account = Account(open_folder(tmp_path), Service())
    cost = account.cost(input_tokens=1, output_tokens=1)
    while len(held) < 400:
        assert account.reserve(cost)
        account.settle(cost, cost)
        held[str(len(held))] = {}
    assert account.spent().calls == 170 + 230


# Addresses.


@pytest.mark.parametrize("azure", [None, "2024-10-21"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status, azure):
    with Hostile(lambda _, __, n: (200, {}, chat(n))) as target:
        elsewhere = {"Location": target.url.replace("127.0.0.1", "localhost") + "/chat/completions?sk-secret"}
        with Hostile(lambda *_: (status, elsewhere, b"")) as server:
            endpoint = Endpoint(base_url=server.url, key_env="PE_BEAM_TEST_KEY", azure_api_version=azure)
            generator = _generator(endpoints=[endpoint])
            with pytest.raises(ServiceError, match=r"endpoints\.0: .*redirects elsewhere.*correct base_url") as caught:
                make(generator)
        server = Hostile(lambda *_: (status, elsewhere, b""), models=(status, elsewhere, b""))
        with server, pytest.raises(ServiceError, match="redirects elsewhere"):
            _generator(server).ready()
    assert target.asked == []
    assert "sk-secret" not in str(caught.value)


def _embedder(server: Hostile, folder: Path | None = None, **service: Any) -> RemoteEmbedder:
    embedder = RemoteEmbedder(RemoteOptions(model="m", dimension=2, send_private_records=True))
    endpoints = [Endpoint(base_url=server.url, key_env="PE_BEAM_TEST_KEY")]
    settings = Service(endpoints=endpoints, timeout=30, **{"patience": 0.5} | service)
    embedder.attach(
        Surroundings(iterations=1, service=settings, folder=None if folder is None else open_folder(folder))
    )
    return embedder


def test_private_records_go_to_no_other_address():
    with Hostile(lambda *_: (200, {}, {})) as target:
        elsewhere = {"Location": target.url.replace("127.0.0.1", "localhost") + "/embeddings"}
        server = Hostile(lambda *_: (307, elsewhere, b""))
        with server, pytest.raises(ServiceError, match="redirects elsewhere"):
            _embedder(server).embed(pa.table({"text": ["private"]}))
    assert target.asked == []


# Answers that are none.


@pytest.mark.parametrize(
    "body",
    [
        chat(0, finish_reason=["a"]),
        chat(0, finish_reason={"a": 1}),
        chat(0, content=[7]),
        chat(0, message="text"),
        {"choices": {}},
        {"choices": [7]},
        b"[" * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe\xff",
        b"",
    ],
    ids=range(10),
)
def test_an_answer_that_is_none_is_asked_for_again_and_counted_at_its_most(tmp_path, body):
    with Hostile(lambda _, __, n: (200, {}, chat(n) if n else body)) as server:
        assert len(make(_generator(server, folder=tmp_path, patience=20), 1)) == 1
        assert len(server.asked) == 2
    assert spent(tmp_path)["calls"] == 2
    assert spent(tmp_path)["output"] == 40 + 10


@pytest.mark.parametrize("key", ["code", "status"])
def test_a_code_of_thousands_of_digits_is_none(tmp_path, key):
    error = {"error": {"message": "no", key: "5" * 5000}}
    with Hostile(lambda _, __, n: (200, {}, error if n == 1 else chat(n))) as server:
        assert len(make(_generator(server, folder=tmp_path, concurrency=1, patience=20), 2)) == 2
        assert len(server.asked) == 3
    assert spent(tmp_path)["output"] == 40 + 2 * 10, "the service may have done the work"


def test_a_failure_that_nobody_foresaw_is_counted_at_its_most(tmp_path, monkeypatch):
    monkeypatch.setattr("pe_beam.modalities.text.openai_client.read_json", lambda _: 1 / 0)
    server = Hostile(lambda _, __, n: (200, {}, chat(n)))
    with server, pytest.raises(ServiceError, match=r"the call failed \(ZeroDivisionError\)"):
        make(_generator(server, folder=tmp_path, concurrency=1), 1)
    assert spent(tmp_path)["output"] == 40


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_a_refusal_is_counted_as_a_call_without_tokens(tmp_path, status):
    with Hostile(lambda *_: (status, {}, {"error": {}})) as server, pytest.raises(ServiceError):
        make(_generator(server, folder=tmp_path), 1)
    assert Cost(**spent(tmp_path)) == Cost(calls=1)


@pytest.mark.parametrize(
    "vectors", [[[1, float("nan")], [1, 2]], [[1, 2]], [[1], [1, 2]], [None, [1, 2]], [[1e300, 1], [1, 2]], [[], []]]
)
def test_embeddings_that_are_none(tmp_path, vectors):
    def reply(_: str, __: Any, number: int) -> Any:
        data = [{"index": i, "embedding": vector} for i, vector in enumerate([[1, 2], [3, 4]] if number else vectors)]
        return 200, {}, {"data": data, "usage": {"prompt_tokens": -5}}

    with Hostile(reply) as server:
        if vectors == [[], []]:
            with pytest.raises(RecipeError, match=r"embedder\.dimension: 2, but the service gives 0"):
                _embedder(server, tmp_path, patience=20).embed(pa.table({"text": ["one", "two"]}))
            return
        found = _embedder(server, tmp_path, patience=20).embed(pa.table({"text": ["one", "two"]})).vectors
    assert np.array_equal(found, [[1, 2], [3, 4]])
    spent = json.loads((tmp_path / "embeddings/account.json").read_text())["spent"]
    assert spent["calls"] == 2 and spent["input"] == 2 * (1 + 8 + 1 + 8), "the guess, both times"


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_without_end_does_not_fill_the_memory(tmp_path, packed):
    """Gigabytes are broken off, however few bytes they come in; the address of the first one is refused."""
    huge = b" " * (MOST_BYTES + 1)
    reply = (200, {"Content-Encoding": "gzip"}, gzip.compress(huge, 1)) if packed else (200, {}, huge)
    with Hostile(lambda _, __, n: reply if n == 1 else (200, {}, chat(n))) as server:
        assert len(make(_generator(server, folder=tmp_path, concurrency=1, patience=20), 2)) == 2
        assert len(server.asked) == 3
    assert spent(tmp_path)["output"] == 40 + 2 * 10
    with Hostile(lambda *_: reply) as server:
        with pytest.raises(ServiceError, match=r"not in the OpenAI protocol \(an answer of more than 64 MiB\)"):
            make(_generator(server), 1)
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"message": "Bad."}, "request (status 400); check embedder and base_url"),
        ({"message": "Input is too long: staff food"}, "its input (status 400): write a smaller embedder.most_char"),
        ({"param": "encoding_format"}, "its encoding_format (status 400): check embedder"),
    ],
)
def test_texts_that_a_service_refuses_to_embed_are_not_the_generator_s(said, wanted):
    with Hostile(lambda *_: (400, {}, {"error": said})) as server, pytest.raises(ServiceError) as caught:
        _embedder(server).embed(pa.table({"text": ["staff food"]}))
    assert wanted in str(caught.value) and "food" not in str(caught.value)


@pytest.mark.parametrize(("max_tokens", "most"), [(40, 100_000), (10_000, 200_000)])
def test_an_answer_of_megabytes_is_cut(max_tokens, most):
    seen: list[Answer] = []
    ask = Ask(row=0, messages=(("user", "Write."),), temperature=1.0, top_p=1.0, max_tokens=max_tokens, seed=1)
    with Hostile(lambda *_: (200, {}, chat(0, content="Good soup. " * 500_000))) as server:
        generator = _generator(server)
        client = OpenAiClient(generator._options, generator._around)
        client.answer_all([ask], lambda _, answer: seen.append(answer), Journal(None))
    assert [(len(answer.text), answer.finish) for answer in seen] == [(most, "length")]
