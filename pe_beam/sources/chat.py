"""Converts lists of messages to text, one line "role: content" per message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pe_beam.contracts.record import Fault

NO_MESSAGES = Fault("value that is no list of messages with role and content")
_KEYS = (("role", "content"), ("from", "value"))


def chat_text(messages: Sequence[Any]) -> str | None:
    """Returns messages of {role, content} or {from, value} as text; None if a message has neither form.

    Content is a text, or a list of objects whose texts are joined. A message without text, such as a call of a tool, is
    left out.

    >>> chat_text([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}, {"role": "user",
    ...     "content": [{"type": "text", "text": "again"}, {"type": "image_url", "image_url": {}}]}])
    'user: Hi\\nuser: again'
    """
    lines = []
    for message in messages:
        found = _message(message)
        if found is None:
            return None
        role, content = found
        lines += [f"{role}: {content}"] if content.strip() else []
    return "\n".join(lines)


def _message(message: Any) -> tuple[str, str] | None:
    if not isinstance(message, Mapping):
        return None
    for who, what in _KEYS:
        role, content = message.get(who), message.get(what)
        if isinstance(role, str) and what in message and (content is None or isinstance(content, str)):
            return role, content or ""
        if isinstance(role, str) and isinstance(content, Sequence):
            parts = [part.get("text") for part in content if isinstance(part, Mapping)]
            return role, "".join(part for part in parts if isinstance(part, str))
    return None
