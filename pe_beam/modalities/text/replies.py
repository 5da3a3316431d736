"""What a service's reply holds: a text in one of the many forms that answers come in, the tokens used, or no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pe_beam.modalities.text.client import Answer, Ask, Finish
from pe_beam.services.dispatch import TransientError, Usage

_LONGEST_TEXT = 100_000  # characters of an answer; longer ones are cut, unless more than this was asked for
_CHARACTERS_A_TOKEN = 20  # more than tokens of any language have
_MOST_TOKENS = 10_000_000  # of one call, either way: beyond every model's context
_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens", "incomplete"), "length"),
    **dict.fromkeys(
        ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "refusal", "sensitive"),
        "filter",
    ),
    "model_context_window_exceeded": "too long",
}
_CUT_SHORT = ("error", "insufficient_system_resource", "abort", "network_error")
"""Ends of an answer that the service gave up itself: asked again as after status 500."""
_NO_ANSWER = "an answer that is not one"
_THOUGHT = ("thinking", "reasoning", "redacted_thinking", "thought", "summary")
"""Kinds of parts that hold a model's reasoning."""


class ErrorReply(Exception):  # noqa: N818 - a reply, told as the error that it holds
    """Status 200 with an error in the body, as gateways have it; has what errors of the package `openai` have.

    Attributes:
      body: the reply.
      status_code: the status that the body names; 200 if it names none.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        inner = body.get("error", body)
        said = [inner.get(key) for key in ("code", "status")] if isinstance(inner, dict) else []
        codes = [int(code) for code in said if isinstance(code, int | str) and str(code).isdecimal()]
        self.status_code = next((code for code in codes if 400 <= code < 600), 200)


def read_json(reply: bytes) -> Any:
    """The body of a reply: JSON, or a stream of it joined to one.

    Raises:
      TransientError: it is neither; the service may have done the work. `unrecognised` where it is whole, and
        something else.
    """
    head = reply[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"data:", b"event:", b":")):
        return _joined(reply)
    try:
        return json.loads(reply)
    except json.JSONDecodeError as error:
        # What begins as JSON was broken on its way. A page, or values one after another, came as they were meant.
        whole = error.msg == "Extra data" or not head.startswith((b"{", b"["))
        page = "a web page" if head[:1] == b"<" else "an answer that is not JSON"
        raise TransientError(page, billed=True, unrecognised=whole and bool(head)) from None
    except UnicodeDecodeError:
        raise TransientError("an answer that is not JSON", billed=True) from None
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        raise TransientError(_NO_ANSWER, billed=True) from None


def _joined(reply: bytes) -> dict[str, Any]:
    """The answer in a stream of server-sent events: of services that have no other, asked with `stream: true`."""
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
    for line in reply.decode("utf-8-sig").split("\n"):  # a text may hold the other line ends that Python knows
        field, _, value = line.partition(":")
        if field == "data" and value.strip() not in ("", "[DONE]"):
            yield json.loads(value)


def read_answer(reply: Any, ask: Ask, chat: bool) -> tuple[Answer, Usage]:
    """The answer in a body. A final answer without text is an empty one: it costs its candidate, not the run.

    Raises:
      ErrorReply: the body is an error.
      TransientError: it is JSON but no answer; `unrecognised` where it has nothing of one.
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
    """Text and end of the first choice; none at all is an empty answer. TypeError: it is no choice."""
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
    """The text of a content: a text, parts of which those of text count, or nothing. TypeError: other than these."""
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
    """Tokens as the service counts them; the guess, the most that they can be, where it does not or cannot mean it.

    A count below 0 would lift a ceiling, and one beyond all sense would end the run for good.
    """
    if not isinstance(usage, dict):
        return guess
    sent = _count(usage.get("prompt_tokens"), guess.input_tokens)
    # Embeddings have no tokens that come back, and no count of them.
    received = _count(usage.get("completion_tokens"), guess.output_tokens) if guess.output_tokens else 0
    return guess if sent is None or received is None else Usage(sent, received)


def _count(found: Any, guess: int) -> int | None:
    """A whole number of tokens that one call can take, or None."""
    whole = isinstance(found, int) or (isinstance(found, float) and found.is_integer())
    if isinstance(found, bool) or not whole or not 0 <= found <= max(_MOST_TOKENS, guess):
        return None
    return int(found)
