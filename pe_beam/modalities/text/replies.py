"""Reads a service's reply: a text in one of the many forms of answers, the tokens used, or no answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pe_beam.modalities.text.client import Answer, Ask, Finish
from pe_beam.services.connection import TransientError, Usage

_LONGEST_TEXT = 100_000  # characters; longer answers are cut, unless more tokens were asked for
_CHARACTERS_A_TOKEN = 20  # more than a token has in any language
_MOST_TOKENS = 10_000_000  # of one call, sent or received: beyond every model's context
_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens", "incomplete"), "length"),
    **dict.fromkeys(
        ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "refusal", "sensitive"),
        "filter",
    ),
    "model_context_window_exceeded": "too long",
}
_CUT_SHORT = ("error", "insufficient_system_resource", "abort", "network_error")
"""Finish reasons of an answer that the service broke off. The ask is repeated, as after status 500."""
_STATUS = re.compile("[45][0-9]{2}")
_NO_ANSWER = "an answer that is not one"
_THOUGHT = ("thinking", "reasoning", "redacted_thinking", "thought", "summary")
"""Types of content that hold a model's reasoning."""


class ErrorReply(Exception):  # noqa: N818 - a reply, told as the error that it holds
    """Status 200 with an error in the body, as gateways send it. It has the attributes of `openai`'s errors.

    Attributes:
      body: the reply.
      status_code: the status that the body names; 200 if it names none.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        inner = body.get("error", body)
        said = [inner.get(key) for key in ("code", "status")] if isinstance(inner, dict) else []
        codes = (str(code) for code in said if isinstance(code, int | str))
        self.status_code = next((int(code) for code in codes if _STATUS.fullmatch(code)), 200)


def read_json(reply: bytes) -> Any:
    """Returns the body of a reply: JSON, or a stream of JSON joined to one object.

    Raises:
      TransientError: the body is neither; the service may have done the work. `unrecognised` if the body is whole and
        something else.
    """
    head = reply[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"data:", b"event:", b":")):
        return _joined(reply)
    try:
        return json.loads(reply)
    except json.JSONDecodeError as error:
        # What begins as JSON was damaged on its way. A page, or several values in sequence, arrived whole.
        whole = error.msg == "Extra data" or not head.startswith((b"{", b"["))
        page = "a web page" if head[:1] == b"<" else "an answer that is not JSON"
        raise TransientError(page, billed=True, unrecognised=whole and bool(head)) from None
    except UnicodeDecodeError:
        raise TransientError("an answer that is not JSON", billed=True) from None
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        raise TransientError(_NO_ANSWER, billed=True) from None


def _joined(reply: bytes) -> dict[str, Any]:
    """Returns the answer in a stream of server-sent events, for services that require `stream: true`."""
    choice: dict[str, Any] = {}
    said: list[str] = []
    refused: list[str] = []
    whole: dict[str, Any] = {"choices": []}
    try:
        for event in _events(reply):
            if event.get("error"):
                return event
            whole |= {"usage": event["usage"]} if event.get("usage") else {}
            for part in (event.get("choices") or [])[:1]:
                delta = part.get("delta") or {}
                said.append(_text(delta.get("content", part.get("text"))))
                refused.append(delta.get("refusal") or "")
                choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
                text = "".join(said)
                choice |= {"text": text, "message": {"content": text, "refusal": "".join(refused)}}
                whole["choices"] = [choice]
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        raise TransientError(_NO_ANSWER, billed=True) from None
    if not reply.rstrip().endswith(b"[DONE]") and not choice.get("finish_reason"):
        raise TransientError("a cut answer", billed=True)
    return whole


def _events(reply: bytes) -> Iterator[dict[str, Any]]:
    for line in reply.decode("utf-8-sig").split("\n"):  # a text may contain the other line ends that `splitlines` knows
        field, _, value = line.partition(":")
        if field == "data" and value.strip() not in ("", "[DONE]"):
            yield json.loads(value)


def read_answer(reply: Any, ask: Ask, chat: bool) -> tuple[Answer, Usage]:
    """Returns the answer in a body. A final answer without text is an empty answer, which does not end the run.

    Raises:
      ErrorReply: the body is an error.
      TransientError: the body is JSON but not an answer; `unrecognised` if it has no field of an answer.
    """
    if not isinstance(reply, dict):
        raise TransientError(_NO_ANSWER, billed=True, unrecognised=True)
    if not reply.get("choices") and (reply.get("error") or reply.get("object") == "error"):
        raise ErrorReply(reply)
    if "choices" not in reply:
        raise TransientError(_NO_ANSWER, billed=True, unrecognised=True)
    usage = counted(reply.get("usage"), Usage(ask.prompt_tokens, ask.max_tokens))
    try:
        text, finish = _choice(reply["choices"], chat)
    except (AttributeError, LookupError, TypeError):
        raise TransientError(_NO_ANSWER, billed=True) from None
    longest = max(_LONGEST_TEXT, _CHARACTERS_A_TOKEN * ask.max_tokens)
    if len(text) > longest:
        text, finish = text[:longest], "length"
    return Answer(text, finish), usage


def _choice(choices: Any, chat: bool) -> tuple[str, Finish]:
    """Returns text and finish of the first choice. No choice is an empty answer. Raises TypeError for another form."""
    if choices is None or choices == []:
        return "", "stop"
    choice = choices[0]
    ended = choice.get("finish_reason")
    if not isinstance(ended, str | None):
        raise TypeError
    ended = (ended or "").lower()
    if ended in _CUT_SHORT or choice.get("error"):
        raise TransientError("an answer that the service broke off", billed=True)
    finish = _FINISH.get(ended, "stop")
    message = choice.get("message") if chat else None
    if message is None:
        return _text(choice.get("text")), finish
    if not isinstance(message, dict):
        raise TypeError
    content = message.get("content")
    refused = message.get("refusal") or (isinstance(content, list) and _refuses(content))
    return _text(content), "filter" if refused else finish


def _text(content: Any) -> str:
    """Returns the text of a content: a text, a list whose texts are joined, or None. Raises TypeError for others."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if not isinstance(content, dict):
        raise TypeError
    if content.get("type") in _THOUGHT or content.get("thought") is True:
        return ""
    inner = content.get("text")
    return _text(inner.get("value") if isinstance(inner, dict) else inner)


def _refuses(parts: list[Any]) -> bool:
    return any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)


def counted(usage: Any, guess: Usage) -> Usage:
    """Returns the tokens that the service counts, or `guess`, an upper bound, if the count is absent or impossible.

    A count below 0 would raise a ceiling, and a far too large one would end the run for good.
    """
    if not isinstance(usage, dict):
        return guess
    sent = _count(usage.get("prompt_tokens"), guess.input_tokens)
    # Embeddings have no tokens in the answer, and no count of them.
    received = _count(usage.get("completion_tokens"), guess.output_tokens) if guess.output_tokens else 0
    return guess if sent is None or received is None else Usage(sent, received)


def _count(found: Any, guess: int) -> int | None:
    """Returns a whole number of tokens that is possible for one call, or None."""
    whole = isinstance(found, int) or (isinstance(found, float) and found.is_integer())
    if isinstance(found, bool) or not whole or not 0 <= found <= max(_MOST_TOKENS, guess):
        return None
    return int(found)
