"""Reads errors in the words of services, and finds those of a single prompt: filtered, or beyond the context.

Every vendor has its own status, code and sentence for the same error. Only the code may be in a message of this
package, because a sentence may repeat a key or a prompt, and only where it looks like one: some put those there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pe_beam.modalities.text.client import Finish
from pe_beam.modalities.text.replies import ErrorReply

_LOOKED_AT = 4000
"""Characters of an error that are examined. Some errors repeat the whole prompt."""
_TOO_LONG_CODES = re.compile(
    r"context_length|context_size|context_window_exceeded|(?:prompt|input|request|string)_(?:is_)?too_(?:long|large)"
    r"|string_above_max_length"
)
_TOO_LONG = re.compile(
    # The context by its name, and that this prompt is beyond it.
    r"(?:maximum|max|model'?s?|limited|available|loaded with|larger than|longer than|exceed(?:s|ed|ing)?|overflows?)"
    r"[^.]{0,60}\bcontext[ _](?:length|size|window|limit)"
    r"|\bcontext[ _](?:length|size|window|limit)[^.]{0,40}(?:exceed|overflow|too (?:long|small|large))"
    r"|context the overflows|(?:maximum|max)[ _](?:model|prompt|sequence|seq)[ _]len|\bn_ctx\b"
    # The prompt, by any of its names, is too long.
    r"|\b(?:prompt|input|inputs|messages|conversation|query)\b[^.]{0,40} too (?:long|large|big)"
    r"|\brequest (?:is |was )?too (?:long|large|big)"
    r"|too (?:long|large|big) for (?:the |this |requested )*(?:model|context)"
    r"|too many (?:input |prompt |total )?tokens"
    r"|\b(?:prompt|input)s?\b[^.]{0,60}\b(?:exceeds?|exceeded|(?:greater|longer|larger) than)\b"
    r"[^.]{0,60}\b(?:max|limit|allowed|context|length)"
    r"|\btoken count\b[^.]{0,60}\bexceed|\btokens? limit\b[^.]{0,20}\bexceed|exceed[^.]{0,40}\btokens? limit"
    r"|\binputs?\b\W{0,2} tokens \+ \W{0,2}max_new_tokens"
    r"|\binputs?\W{0,2} must have (?:less|fewer) than|should not exceed max_(?:input|num|seq)"
    r"|reduce the (?:length|size) of (?:the |your )?(?:messages|prompt|input)"
    r"|range of input length should be|max input (?:characters|tokens|length)|max(?:imum)? tokens[^.]{0,20}exceeded"
    r"|prompt has more than|max_tokens must be at least 1, got -"
)
_FILTER_CODES = re.compile(
    r"content_filter|content_policy|responsibleaipolicy|data_inspection_failed|invalid_prompt|moderation|safety"
)
_FILTERED = re.compile(
    r"content exists risk|content management policy|\bflagged\b|inappropriate content"
    r"|violat\w+ (?:our |the )?(?:usage|content) polic"
)
_CODE = re.compile(r"[A-Za-z]+(?:[._-][A-Za-z]+)*|[0-9]{1,6}")
"""A code that a message may show: a name or a small number. Keys mix letters and digits, and prompts have blanks."""
_REQUEST_TOO_LARGE = re.compile(r"\brequest too large\b")  # for the tokens of a minute: waiting changes nothing


@dataclass(frozen=True)
class Said:
    """An error as the service reports it.

    Attributes:
      status: status of the reply, or the one that its body names.
      code: the service's own word for the error.
      text: all of the error, in lower case and cut.
      param: the field of the request that the error names in `param`, if any.
      headers: headers of the reply.
    """

    status: int
    code: str
    text: str
    param: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """Status, and the code if it can be one, for a message."""
        named = self.code if self.code != str(self.status) and _CODE.fullmatch(self.code) else ""
        return f"status {self.status}{', ' + named if named else ''}"


def said_by(error: Exception) -> Said | None:
    """Returns what an error of the package `openai`, or an `ErrorReply`, says; None: it is not of the service."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return None
    response = getattr(error, "response", None)
    body = error.body if isinstance(error, ErrorReply) else _body(response)
    outer = body[0] if isinstance(body, list) and body else body
    outer = outer if isinstance(outer, dict) else {}
    inner = outer.get("error", outer)
    inner = inner if isinstance(inner, dict) else {}
    words = [inner.get("code"), inner.get("type"), outer.get("error_type")]
    spoken = sorted((word[:60] for word in words if isinstance(word, str) and word), key=str.isdecimal)
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return Said(
        status,
        code=spoken[0] if spoken else "",  # a word if there is one, else the number
        text=text[:_LOOKED_AT].replace("\\", "").lower(),
        param=inner["param"] if isinstance(inner.get("param"), str) else "",
        headers=getattr(response, "headers", {}),
    )


def _body(response: Any) -> Any:
    """Returns a reply's body: JSON, or a text. Versions of the package differ in how much of it they pass on."""
    try:
        text = str(response.text)
    except (AttributeError, RuntimeError):  # closed before it was read
        return ""
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text


def one_candidate(said: Said) -> Finish | None:
    """Returns how an error ends a single prompt: filtered, or beyond the context; None: it is another error."""
    code = said.code.lower()
    if said.status in (200, 400, 403, 422) and (_FILTER_CODES.search(code) or _FILTERED.search(said.text)):
        return "filter"
    if said.status in (413, 429) and _REQUEST_TOO_LARGE.search(said.text):
        return "too long"
    if said.status == 413:
        return "too long"
    if said.status not in (200, 400, 422, 500):
        return None
    if _TOO_LONG_CODES.search(code):
        return "too long"
    # Another field has its own limit, which does not depend on the prompt.
    own = named_field(said) not in ("", "messages", "prompt", "input") and "context length" not in said.text
    return "too long" if not own and _TOO_LONG.search(said.text) else None


def named_field(said: Said) -> str:
    """Returns the field that an error names in `param`, or in the `loc` of a validator."""
    placed = re.search(r"\bloc\b\W{1,6}body\W{1,6}(\w+)", said.text)
    return re.split(r"\W", said.param.lower())[0] or (placed[1] if placed else "")
