"""What services say that refuse, are full, busy or none, in many vendors' words, through the real client."""

from __future__ import annotations

import email.utils
import time
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.service import Ceiling, Endpoint, Service, Surroundings
from pe_beam.errors import ServiceError, SpentError
from pe_beam.modalities.text.client import Answer
from pe_beam.modalities.text.remote_embedder import RemoteEmbedder, RemoteOptions
from pe_beam.services import pauses
from pe_beam.services.account import Account
from pe_beam.services.pauses import retry_after
from pe_beam.storage import open_folder
from tests.modalities.text.asking import make, spent
from tests.modalities.text.hostile import Hostile, Reply, chat
from tests.modalities.text.vendors import VALIDATOR, answers, generator, refusal

pytestmark = pytest.mark.usefixtures("key_is_set")

PAGE = b"<!doctype html><html><body>Open WebUI</body></html>"


# Errors that belong to one prompt.

TOO_LONG = [
    refusal(
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        code="context_length_exceeded",
    ),
    (
        400,
        {},
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. Please reduce",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    refusal(
        "'max_tokens' or 'max_completion_tokens' is too large: 40. This model's maximum context length is 30 tokens",
        param="max_tokens",
    ),
    refusal("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    (
        400,
        {},
        {
            "error": {
                "code": 400,
                "message": "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
                "type": "exceed_context_size_error",
            }
        },
    ),
    (
        500,
        {},
        {
            "error": {
                "code": 500,
                "message": "Input prompt is too big compared to KV size. Please try increasing KV size.",
                "type": "server_error",
            }
        },
    ),
    (500, {}, {"error": {"message": "the input length exceeds the context length", "type": "api_error"}}),
    (400, {}, {"error": {"message": "Requested tokens (4390) exceed context window of 4096"}}),
    (
        400,
        {},
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 213462 tokens > 200000 maximum"},
        },
    ),
    refusal("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
    (413, {}, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
    (413, {}, b"<html><h1>413 Request Entity Too Large</h1></html>"),
    (
        422,
        {},
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
            "error_type": "validation",
        },
    ),
    (
        422,
        {},
        {
            "error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 5000",
            "error_type": "validation",
        },
    ),
    (
        400,
        {},
        {
            "object": "error",
            "message": "Prompt contains 33000 tokens, too large for model with 32768 maximum context length",
            "type": "invalid_request_error",
            "code": "3051",
        },
    ),
    (
        400,
        {},
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1199999) exceeds the maximum number of tokens allowed.",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    refusal("Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with 4096"),
    (400, {}, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    refusal("Please reduce the length of the messages or completion."),
    refusal("This model's maximum prompt length is 131072 but the request contains 300000 tokens."),
    refusal("The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
    refusal(
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 6000]",
        code="invalid_parameter_error",
    ),
    refusal("Prompt exceeds max length", code="1261"),
    refusal("Invalid request: Your request exceeded model token limit: 8192"),
    refusal("Input is too long for requested model."),
    refusal("too many tokens: total number of tokens in the request exceeds the limit of 4081"),
    refusal(
        "Invalid 'messages[0].content': string too long.", code="string_above_max_length", param="messages[0].content"
    ),
    refusal("Prompt length (9000) exceeds maximum input length (8192)"),
    (
        429,
        {},
        {
            "error": {
                "message": "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.",
                "code": "rate_limit_exceeded",
            }
        },
    ),
    (200, {}, {"error": {"message": "This endpoint's maximum context length is 8192 tokens.", "code": 400}}),
]


@pytest.mark.parametrize("reply", TOO_LONG, ids=range(len(TOO_LONG)))
def test_a_context_that_is_full_costs_one_candidate_in_every_vendors_words(reply):
    assert answers(reply) == [Answer("", "too long")]


FILTERED = [
    refusal("The response was filtered", code="content_filter", param="prompt"),
    refusal("Your request was rejected", code="content_policy_violation"),
    refusal(
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
    ),
    refusal("Content Exists Risk"),
    refusal("Input data may contain inappropriate content.", code="data_inspection_failed"),
    (403, {}, {"error": {"code": 403, "message": "m requires moderation. Your input was flagged for violence"}}),
]


@pytest.mark.parametrize("reply", FILTERED, ids=range(len(FILTERED)))
def test_a_prompt_that_is_filtered_costs_one_candidate(reply):
    assert answers(reply) == [Answer("", "filter")]


@pytest.mark.parametrize(
    "reply",
    [
        refusal(
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", param="max_tokens"
        ),
        refusal(
            "`max_tokens` must be <= 8192, it is less than the `context_window` for this model", param="max_tokens"
        ),
        (422, {}, {"detail": [VALIDATOR | {"loc": ["body", "top_p"], "msg": "Input should be greater than 0, max 1"}]}),
        refusal("temperature is too large"),
        refusal("Bad request"),
    ],
)
def test_a_field_that_no_prompt_would_mend_stops_the_run(reply):
    with pytest.raises(ServiceError, match="refuses the request"):
        answers(reply)


def test_a_provider_without_credit_says_so():
    reply = (402, {}, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}})
    with pytest.raises(SpentError, match="quota is used up"):
        answers(reply)


@pytest.mark.parametrize("status", [400, 401, 402, 404])
@pytest.mark.parametrize("code", ["sk-secret-7Zq", "sk-secret7", "Write a text on soup", "Write: soup", "a" * 59 + "1"])
def test_a_code_that_may_be_a_key_or_a_prompt_is_not_shown(status, code):
    with pytest.raises((ServiceError, SpentError), match=rf"\(status {status}[;)]") as caught:
        answers(refusal("no", status, code=code, type=code))
    assert code[:8] not in str(caught.value)


@pytest.mark.parametrize("code", ["invalid_api_key", "InvalidParameter.BadRequest", "missing-scope", "1301"])
def test_a_code_that_is_one_is_shown(code):
    with pytest.raises(ServiceError, match=rf"\(status 400, {code}\)"):
        answers(refusal("no", code=code, type=None))


# Keys that may not list models, and addresses where something else is.

SCOPES = "You have insufficient permissions for this operation. Missing scopes: api.model.read."


@pytest.mark.parametrize(
    "models",
    [
        refusal(SCOPES, 403, code="missing_scope"),
        refusal(SCOPES, 401, code="missing_scope"),
        (401, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}, b""),
        (403, {}, b"Forbidden"),
        (404, {}, b"404 page not found"),
        (405, {}, {"detail": "Method Not Allowed"}),
        (501, {}, b""),
        (200, {}, b""),
        (200, {}, {"error": "Unexpected endpoint or method. (GET /v1/models)"}),
    ],
)
def test_a_key_that_may_not_list_models_is_taken(models):
    with Hostile(lambda _, __, n: (200, {}, chat(n)), models=models) as server:
        llm = generator(server)
        llm.ready()
        assert len(make(llm, 2)) == 2


@pytest.mark.parametrize("models", [refusal("Incorrect API key", 401, code="invalid_api_key"), (401, {}, b"")])
def test_a_key_that_is_wrong_is_refused_before_the_first_call(models):
    with Hostile(lambda _, __, n: (200, {}, chat(n)), models=models) as server:
        with pytest.raises(ServiceError, match="the key is not accepted"):
            generator(server).ready()
        assert len(server.asked) == 1


def test_a_key_that_may_neither_list_nor_complete_is_told_by_the_first_call():
    with Hostile(lambda *_: refusal("No.", 403), models=refusal("No.", 403)) as server:
        llm = generator(server)
        llm.ready()
        with pytest.raises(ServiceError, match=r"the key is not accepted \(status 403.*what the key may do"):
            make(llm)


STRANGE = [
    PAGE,
    b"\n\xef\xbb\xbf  <?xml version='1.0'?><a/>",
    b"Ollama is running",
    b"404 page not found",
    {"status": "ok"},
    [],
    "ok",
    {"model": "m", "message": {"role": "assistant", "content": "Soup."}, "done": True},
    {"id": "x", "type": "message", "content": [{"type": "text", "text": "Soup."}]},
    b'{"response": "Soup", "done": false}\n{"response": ".", "done": true}\n',
    {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
]


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_an_address_where_something_else_answers_is_refused_at_once(tmp_path, body):
    with Hostile(lambda *_: (200, {}, body), models=(404, {}, b"")) as server:
        llm = generator(server, tmp_path, service={"patience": 20})
        llm.ready()
        with pytest.raises(
            ServiceError, match=rf"endpoints\.0: the service at {server.url} answers, but not .*base_url"
        ):
            make(llm)
        assert len(server.asked) <= 1 + 2, "those in flight, and none again"
    assert spent(tmp_path)["input"] == spent(tmp_path)["output"] == 0


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_the_same_in_the_middle_of_a_run_may_pass(body):
    with Hostile(lambda _, __, n: (200, {}, body if n == 2 else chat(n))) as server:
        assert len(make(generator(server, service={"concurrency": 1}), 4)) == 4
        assert len(server.asked) == 5


def test_a_page_that_a_later_process_meets_may_pass(tmp_path):
    """Another dispatcher, but an account that says that the service has answered."""
    account = Account(open_folder(tmp_path / "llm"), Service())
    worst = account.cost(input_tokens=5, output_tokens=5)
    account.reserve(worst)
    assert not account.has_tokens()
    account.settle(worst, worst)
    assert account.has_tokens()
    with Hostile(lambda _, __, n: (200, {}, chat(n) if n else PAGE)) as server:
        assert len(make(generator(server, tmp_path), 1)) == 1


def test_a_web_page_costs_no_call(texts, tmp_path, capsys):
    with Hostile(lambda *_: (200, {}, PAGE), models=(200, {}, PAGE)) as server:
        texts["execution"]["llm"] |= {"endpoints": [{"base_url": server.url, "key_env": None}]}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(texts))
        assert main(["run", str(tmp_path / "r.yaml"), "--run-dir", str(tmp_path / "run")]) == 1
        assert (
            f"the service at {server.url} answers, but not in the OpenAI protocol (a web page)"
            in capsys.readouterr().err
        )
        assert server.asked == ["/v1/models"]
        assert not (tmp_path / "run/ledger.jsonl").exists()


def test_an_embedding_service_that_is_none_and_a_ceiling_that_tells_no_number_of_records(tmp_path):
    def embedder(server: Hostile, **service: Any) -> RemoteEmbedder:
        made = RemoteEmbedder(RemoteOptions(model="m", dimension=2, batch_size=1, send_private_records=True))
        endpoints = [Endpoint(base_url=server.url, key_env="PE_BEAM_TEST_KEY")]
        settings = Service(endpoints=endpoints, timeout=30, patience=5, **service)
        made.attach(Surroundings(iterations=1, service=settings, folder=open_folder(tmp_path), private=True))
        return made

    rows = pa.table({"text": [f"private {i}" for i in range(30)]})
    for body in (PAGE, {"object": "list"}, {"error": "Unexpected endpoint"}, chat(0)):
        server = Hostile(lambda *_, body=body: (200, {}, body))
        with server, pytest.raises(ServiceError, match="answers, but not in the OpenAI protocol"):
            embedder(server).embed(rows)
    server = Hostile(lambda *_: (200, {}, {"data": [{"index": 0, "embedding": [1, 2]}]}))
    with server, pytest.raises(SpentError, match=r"execution\.embeddings\.ceiling\.calls") as caught:
        embedder(server, ceiling=Ceiling(calls=40)).embed(pa.concat_tables([rows] * 2))
    assert not any(letter.isdigit() for letter in str(caught.value))


# Pauses.


def test_a_pause_in_every_form(monkeypatch):
    now = 1.8e9
    monkeypatch.setattr(pauses, "time", SimpleNamespace(time=lambda: now))
    assert retry_after({"retry-after-ms": "350"}) == 0.35
    assert retry_after({"retry-after": "7"}) == retry_after({"retry-after": " 7.0 "}) == 7
    assert retry_after({"retry-after": email.utils.formatdate(now + 60, usegmt=True)}) == 60
    assert retry_after({"retry-after": "1m30s"}) == 90
    assert retry_after({"retry-after": "1m30s", "x-ratelimit-reset-requests": "1s"}) == 1
    assert retry_after({"retry-after": "9", "x-ratelimit-reset-requests": "1s"}) == 9
    both = {"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}
    assert retry_after(both) == 0.12
    assert retry_after(both | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-remaining-requests": "4"}) == 360
    assert retry_after({"x-ratelimit-reset": str(int((now + 30) * 1000))}) == 30
    assert retry_after({"x-ratelimit-reset": str(int(now + 31))}) == 31
    assert retry_after({"ratelimit-reset": "12"}) == 12
    assert retry_after({}, "rate limit reached; please try again in 7.66s. visit") == 7.66
    assert retry_after({}, '"retrydelay": "34s"') == 34
    assert retry_after({}, "slow down") is None
    assert retry_after({"retry-after": "soon", "x-ratelimit-reset": ""}) is None


@pytest.mark.parametrize("headers", [{"retry-after-ms": "350"}, {"x-ratelimit-reset-requests": "350ms"}, {}])
def test_a_pause_is_kept(headers):
    came: list[float] = []

    def reply(_: str, __: Any, number: int) -> Reply:
        came.append(time.monotonic())
        message = "slow" if headers else "Please try again in 350ms."
        return (200, {}, chat(number)) if number else (429, headers, {"error": {"message": message}})

    with Hostile(reply) as server:
        assert len(make(generator(server), 1)) == 1
    assert 0.35 <= came[1] - came[0] < 10
