"""What services answer and which fields they refuse, in the forms of many vendors, through the real client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.errors import ServiceError, StageError
from pe_beam.modalities.text.client import Answer, Ask
from pe_beam.modalities.text.options import LlmOptions
from tests.modalities.text.asking import make, spent
from tests.modalities.text.hostile import Hostile, Reply, chat
from tests.modalities.text.vendors import VALIDATOR, WHY, answers, generator, refusal

pytestmark = pytest.mark.usefixtures("key_is_set")


# Forms of an answer.


def _part(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("Soup.", "Soup."),
        ([_part("Good "), _part("soup.")], "Good soup."),
        ([{"type": "thinking", "thinking": [_part(WHY)]}, _part("Soup.")], "Soup."),
        ([{"type": "thinking", "thinking": WHY, "signature": "x"}, _part("Soup.")], "Soup."),
        ([_part(WHY, "reasoning"), _part("Soup.", "output_text")], "Soup."),
        ([{"type": "reasoning", "summary": [_part(WHY, "summary_text")]}, _part("Soup.", "output_text")], "Soup."),
        ([{"thought": True, "text": WHY}, {"text": "Soup."}], "Soup."),
        ([{"type": "text", "text": {"value": "Soup.", "annotations": []}}], "Soup."),
        (["Good ", "soup."], "Good soup."),
        (_part("Soup."), "Soup."),
        ([_part("Soup."), {"type": "tool_use", "id": "1", "name": "f", "input": {}}, None], "Soup."),
        ([{"type": "thinking", "thinking": WHY}], ""),
        ([{"type": "image_url", "image_url": {"url": "x"}}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_a_content_in_parts_is_its_text(content, wanted):
    assert answers((200, {}, chat(0, content=content))) == [Answer(wanted, "stop")]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (chat(0, message={"role": "assistant"}), Answer("", "stop")),
        (chat(0, message=None), Answer("", "stop")),
        (chat(0, message={"reasoning": WHY}, finish_reason="length"), Answer("", "length")),
        (chat(0, message={"content": None, "reasoning_content": WHY}), Answer("", "stop")),
        (chat(0, message={"content": "", "reasoning_content": WHY}), Answer("", "stop")),
        (chat(0, message={"content": None, "tool_calls": [CALL]}, finish_reason="tool_calls"), Answer("", "stop")),
        (chat(0, message={"function_call": {"name": "f"}}, finish_reason="function_call"), Answer("", "stop")),
        (chat(0, message={"role": "assistant"}, finish_reason="content_filter"), Answer("", "filter")),
        (chat(0, message={"content": "Half"}, finish_reason="SAFETY"), Answer("Half", "filter")),
        (chat(0, message={"content": None, "refusal": "No."}), Answer("", "filter")),
        (chat(0, content=[{"type": "refusal", "refusal": "No."}]), Answer("", "filter")),
        (chat(0, message={"content": "Half"}, finish_reason="MAX_TOKENS"), Answer("Half", "length")),
        (chat(0, message={"content": ""}, finish_reason="model_context_window_exceeded"), Answer("", "too long")),
        (chat(0, message={"content": "Soup."}, finish_reason=None), Answer("Soup.", "stop")),
        (chat(0, message={"content": "Soup."}, finish_reason="eos"), Answer("Soup.", "stop")),
        ({"choices": [], "usage": None}, Answer("", "stop")),
        ({"choices": None, "error": None}, Answer("", "stop")),
        ({"choices": [{"index": 0, "finish_reason": "stop"}]}, Answer("", "stop")),
        ({"choices": [{"text": "Soup."}]}, Answer("Soup.", "stop")),
    ],
)
def test_a_final_answer_without_text_is_an_empty_one(body, wanted):
    assert answers((200, {}, body)) == [wanted]


@pytest.mark.parametrize("broken", ["error", "insufficient_system_resource"])
def test_an_answer_that_the_service_broke_off_is_asked_for_again(broken):
    with Hostile(lambda _, __, n: (200, {}, chat(n, finish_reason="stop" if n else broken))) as server:
        assert len(make(generator(server), 1)) == 1
        assert len(server.asked) == 2


def test_a_candidate_without_an_answer_costs_itself_alone(tmp_path):
    """Half of the answers have no text: others stand in, and every call is asked once."""

    def reply(_: str, body: dict[str, Any], number: int) -> Reply:
        silent = body["seed"] % 2
        return 200, {}, chat(number, message={"role": "assistant"}) if silent else chat(number)

    with Hostile(reply) as server:
        llm = generator(server, tmp_path)
        made = llm.random(["a"] * 20, [np.random.default_rng(i) for i in range(20)])
        told = llm.summary(made)
    assert made["text"].null_count == 0
    assert set(told["rejected_answers"]) == {"empty"}
    assert len(server.asked) == 20 + told["rejected_answers"]["empty"] - told["stand_ins"]
    assert spent(tmp_path)["calls"] == len(server.asked)


def test_no_answer_with_a_text_at_all_ends_with_a_message():
    body = chat(0, message={"content": None, "reasoning_content": WHY}, finish_reason="length")
    with Hostile(lambda *_: (200, {}, body)) as server:
        with pytest.raises(StageError, match=r"no answer of 4 could be used \(empty\).*more sampling\.max_tokens"):
            make(generator(server), 4)
        assert len(server.asked) == 4 * 3


def test_a_service_that_only_streams_is_read_where_the_recipe_asks_for_it():
    def event(**changes: Any) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": 0} | changes]}).encode() + b"\n\n"

    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\r\n\r\n'
    parts = [event(delta={"role": "assistant", "content": ""}), event(delta={"reasoning_content": WHY})]
    parts += [event(delta={"content": "Good\u2028"}), event(delta={"content": "soup."}, finish_reason=None)]
    parts += [event(delta={}, finish_reason="length"), usage, b": a comment\n\n", b"data: [DONE]\n\n"]
    found = answers((200, {"Content-Type": "text/event-stream"}, b"".join(parts)), extra={"stream": True})
    assert found == [Answer("Good\u2028soup.", "length")]
    with Hostile(lambda _, __, n: (200, {}, b"".join(parts if n else parts[:3]))) as server:
        assert make(generator(server, extra={"stream": True}), 1) == ["Good soup."]
        assert len(server.asked) == 2, "a stream that was cut is asked for again"


# Fields that a service refuses.


NULLS = r"generator\.random\.sampling\.{0}: null and generator\.vary\.sampling\.{0}: null"
FIELDS = [
    (
        refusal("Unsupported parameter: 'top_p' is not supported with this model.", param="top_p"),
        "its top_p",
        NULLS.format("top_p"),
    ),
    (
        refusal("Unsupported value: 'temperature' does not support 0.7.", param="temperature"),
        "its temperature",
        NULLS.format("temperature"),
    ),
    (
        refusal("`temperature` and `top_p` cannot both be specified for this model."),
        "its temperature and top_p",
        NULLS.format("top_p"),
    ),
    (refusal("temperature is deprecated for this model"), "its temperature", NULLS.format("temperature")),
    (
        refusal("Use 'max_completion_tokens' instead of 'max_tokens'.", param="max_tokens"),
        "its max_tokens",
        "token_limit: max_completion_tokens",
    ),
    (
        refusal("max_tokens is too large: 40. This model supports at most 16 completion tokens", param="max_tokens"),
        "its max_tokens",
        r"a smaller sampling\.max_tokens",
    ),
    (
        refusal('Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
        "its seed",
        "generator.seeded: false",
    ),
    (
        refusal("Malformed input request: #: extraneous key [seed] is not permitted"),
        "its seed",
        "generator.seeded: false",
    ),
    ((422, {}, {"detail": [VALIDATOR]}), "its seed", "generator.seeded: false"),
    (
        (422, {}, {"object": "error", "message": {"detail": [VALIDATOR]}, "type": "invalid_request_error"}),
        "its seed",
        "generator.seeded: false",
    ),
    (
        (422, {}, b"Failed to deserialize: unknown field `seed`, expected one of `model`, `messages`, `temperature`"),
        "its seed",
        "generator.seeded: false",
    ),
    (refusal("property 'logprobs' is unsupported"), "its logprobs", "take logprobs out of generator.extra"),
    (refusal("n > 1 is not supported", param="n"), "its n", "take n out of generator.extra"),
    (
        refusal("'messages[0].role' does not support 'system'.", param="messages[0].role"),
        "its messages",
        "generator.random.system",
    ),
    (
        refusal("This model only support stream mode, please enable the stream parameter."),
        "want of stream",
        r"generator\.extra: \{stream: true\}",
    ),
    (refusal("Bad."), "request", "check generator and base_url"),
]


@pytest.mark.parametrize(("reply", "named", "advice"), FIELDS, ids=range(len(FIELDS)))
def test_a_field_that_is_refused_is_named_with_what_to_write(tmp_path, reply, named, advice):
    with Hostile(lambda *_: reply) as server:
        llm = generator(server, tmp_path, extra={"logprobs": True, "n": 2})
        with pytest.raises(ServiceError, match=rf"endpoints\.0: the service refuses the .*{named} .*{advice}"):
            make(llm)
        assert len(server.asked) <= 2, "those in flight, and none again"
    assert spent(tmp_path)["input"] == spent(tmp_path)["output"] == 0


def test_null_leaves_a_field_out(tmp_path):
    bodies: list[dict[str, Any]] = []

    def reply(_: str, body: dict[str, Any], number: int) -> Reply:
        bodies.append(body)
        return 200, {}, chat(number)

    sampling = {"temperature": None, "top_p": None, "max_tokens": 40}
    parts = {
        "random": {"user": "Write.", "sampling": sampling},
        "vary": {"user": "{masked}", "sampling": {"top_p": None}},
    }
    with Hostile(reply) as server:
        llm = generator(server, seeded=False, token_limit="max_completion_tokens", **parts)
        made = llm.random(["a"], [np.random.default_rng(0)])
        parents = made.append_column("label", pa.array(["a"]))
        llm.vary(parents, _step(), [np.random.default_rng(1)])
        assert llm.expected_tokens(0, 1, ["a"])[1] == 40
    assert set(bodies[0]) == {"model", "messages", "max_completion_tokens"}
    assert set(bodies[1]) == {"model", "messages", "max_completion_tokens", "temperature"}


def _step() -> Any:
    from pe_beam.contracts.generator import Step

    return Step(iteration=1, iterations=1, degree=0.5)


def test_a_field_that_is_left_out_is_another_ask_and_needs_a_service():
    shared = {
        "row": 0,
        "messages": (("user", "x"),),
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 5,
        "seed": 1,
    }
    assert (
        len({Ask(**shared).key, Ask(**shared, left_out=("top_p",)).key, Ask(**shared, left_out=("temperature",)).key})
        == 3
    )
    plain = {"model": "m", "backend": "huggingface", "vary": {"user": "y"}}
    with pytest.raises(ValueError, match=r"random\.sampling\.top_p: a number; null leaves a field out"):
        LlmOptions.model_validate(plain | {"random": {"user": "x", "sampling": {"top_p": None}}})
    with pytest.raises(ValueError, match=r"sampling\.max_tokens"):
        LlmOptions.model_validate(plain | {"random": {"user": "x", "sampling": {"max_tokens": None}}})


# A whole run.


def test_no_reasoning_in_a_sample(texts, tmp_path):
    def reply(_: str, body: dict[str, Any], number: int) -> Reply:
        form = number % 4
        said = [f"<think>{WHY}</think>\nSoup {number}.", f"{WHY}</think>Soup {number}.<|im_end|>", f"<think>{WHY}"]
        parts = [{"type": "thinking", "thinking": WHY}, _part(f"Soup {number}.")]
        return 200, {}, chat(number, content=parts if form == 3 else said[form])

    with Hostile(reply) as server:
        texts["execution"]["llm"] |= {"endpoints": [{"base_url": server.url, "key_env": None}]}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(texts))
        assert main(["run", str(tmp_path / "r.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    samples = pq.read_table(tmp_path / "run/release/samples.parquet")["text"].to_pylist()
    assert all(text.startswith("Soup ") and text.endswith(".") for text in samples)
