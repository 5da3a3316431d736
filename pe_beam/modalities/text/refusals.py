"""Decides what a service's error means for a run: it is transient, or it ends the run and a message says what to do.

Of a service's text, a message contains only the code and the names of fields that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pe_beam.errors import RefusedError, SpentError
from pe_beam.modalities.text.wordings import Said, named_field
from pe_beam.services.connection import TransientError
from pe_beam.services.pauses import retry_after

_MAY_PASS = (408, 409, 425, 429)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "payment_required")

_STREAM_ONLY = re.compile(
    r"only supports? (?:the )?stream|stream(?:ing)? (?:mode|is required|must)|stream\b.{0,30}\bmust be (?:set to )?true"
    r"|non-?stream\w* .{0,30}not (?:supported|allowed)"
)
_SCOPE = re.compile(r"scope|permission")


@dataclass(frozen=True)
class Asked:
    """The request, for a message that says what to write in the recipe.

    Attributes:
      where: the endpoint's recipe key.
      model: the model's name there.
      fields: names in the request's body that a recipe can change or leave out.
      advice: a field's name -> what to write, or None.
      part: the recipe's section that the request is made from.
    """

    where: str
    model: str
    fields: Collection[str] = ()
    advice: Callable[[str], str | None] = lambda _: None
    part: str = "generator"


def lists_no_models(said: Said) -> bool:
    """Returns whether a service that gives no list of models may still answer. The first call then shows it."""
    if said.status == 401:
        return bool(_SCOPE.search(said.code.lower() + said.text + said.headers.get("www-authenticate", "").lower()))
    return (400 <= said.status < 500 and said.status not in (408, 429)) or said.status == 501


def explained(said: Said, asked: Asked) -> Exception:
    """Turns an error into a transient error, or into one error with a message that says what to do."""
    where, status = asked.where, said.status
    if said.code.lower() in _SPENT or status == 402:
        return SpentError(
            f"{where}: the provider says that its own quota is used up ({said.short}); run again once it is not"
        )
    if status in _MAY_PASS or status >= 500:
        # A gateway's time-out counts as a time-out: the service behind it may have done the work.
        wait = retry_after(said.headers, said.text)
        billed = status in (504, 524)
        return TransientError(f"status {status}", wait=wait, billed=billed, paced=status in _MAY_PASS)
    if status == 200:
        return TransientError("an answer that is an error", billed=True, unrecognised=True)
    return _refused(said, asked)


def _refused(said: Said, asked: Asked) -> RefusedError:
    """Returns the error that is not transient."""
    where, status = asked.where, said.status
    if status < 400:
        return RefusedError(
            f"{where}: the service redirects elsewhere (status {status}), and no redirect is followed: nothing goes to "
            "an address that the recipe does not name; correct base_url, and run again"
        )
    if status in (401, 403):
        more = ", and what the key may do" if status == 403 else ""
        return RefusedError(
            f"{where}: the key is not accepted ({said.short}); check key_env or key_file{more}, and run again"
        )
    if status in (404, 405):
        return RefusedError(
            f"{where}: no such model or address ({said.short}; model {asked.model!r}); check base_url and model"
        )
    return _not_taken(said, asked)


def _not_taken(said: Said, asked: Asked) -> RefusedError:
    """Returns the error for a request that is not accepted, with the fields that it names and advice for each."""
    names = named_fields(said, asked.fields)
    if not names:
        return RefusedError(
            f"{asked.where}: the service refuses the request ({said.short}); check {asked.part} and base_url"
        )
    advice = "; ".join(found for found in map(asked.advice, names) if found) or f"check {asked.part}"
    why = (
        "for want of stream"
        if names == ["stream"] and "stream" not in asked.fields
        else f"for its {' and '.join(names)}"
    )
    return RefusedError(f"{asked.where}: the service refuses the request {why} ({said.short}): {advice}")


def named_fields(said: Said, fields: Collection[str]) -> list[str]:
    """Returns the fields of a request that an error names, in its order; `stream` also if the service requires it."""
    if "stream" not in fields and (said.param == "stream" or _STREAM_ONLY.search(said.text)):
        return ["stream"]
    known = {name.lower(): name for name in fields}
    if named_field(said) in known:
        return [known[named_field(said)]]
    text = re.split(
        r"expected one of|supported (?:fields|parameters)|allowed:|\bvalid (?:fields|parameters)", said.text
    )[0]
    found = re.findall(r"['\"`\[]?\b\w+\b['\"`\]]?", text)
    quoted = [word[1:-1] for word in found if word[:1] in "'\"`[" and word[-1:] in "'\"`]"]
    plain = [word.strip("'\"`[]") for word in found]
    told = [name for name in quoted if name in known] or [name for name in plain if name in known and len(name) > 3]
    return [known[name] for name in dict.fromkeys(told)][:3]
