"""Removes what a model adds to an answer, and names the kind of fault of an answer that cannot be used."""

from __future__ import annotations

import functools
import re
from typing import Any

from pe_beam.errors import MissingExtraError
from pe_beam.modalities.text.markup import without_markup
from pe_beam.modalities.text.options import Cleaning
from pe_beam.modalities.text.remarks import PREAMBLE, PREAMBLE_ABROAD, declines

_SURE = re.compile(r"^(?:sure|certainly|of course|absolutely)\s*[!.:]\s+(?=\S)", re.IGNORECASE)
_TAG = re.compile(r"^(?:review|answer|output|text|abstract|rephrased|response|result)\s*:\s+", re.IGNORECASE)
_CLOSING = re.compile(
    r"(?:(?:let me know (?:if|whether)|i hope (?:this|that) (?:helps|works|is)|feel free to|"
    r"please let me know|is there anything else|would you like me to|hope this helps)\b[^\n]{0,240})$",
    re.IGNORECASE,
)
_NOTE = re.compile(r"[(\[]\s*(?:note|word count|total words|words)\b[^)\]]{0,300}[)\]]\s*$", re.IGNORECASE)
_COUNT = re.compile(
    r"(?:[(\[]\s*(?:exactly |about |approximately |total[: ]*)?\d+ words?\s*[)\]]|word count:\s*\d+)\s*$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^```[\w-]*\n(.*?)\n?```$", re.DOTALL)
_SENTENCE_END = re.compile(
    # Latin and the like, Urdu, Arabic, Hindi and Amharic have a space after a sentence; Chinese, Burmese and Khmer not.
    r"[.!?…۔؟।॥።][\"'”’»)\]]*(?=\s|$)|[。！？｡．။។៕][\"'”’)\]」』）】》]*"
)
_EDGE = 1000
"""Characters at either end that are searched for remarks: the patterns take quadratic time, answers may be long."""
_ROUNDS = 12
"""Largest number of passes over an answer. An answer of many tags and notes would lose only one per pass."""
_CONTROLS = dict.fromkeys(code for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\x0b\x0c\r\x85")
"""Control characters but those that are blanks. No text has them, and in a terminal they move, colour and overwrite."""
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“", "「": "」", "『": "』"}


def clean(text: str, options: Cleaning) -> str:
    """Returns the text of an answer without the model's remarks around it. The result may be empty."""
    text = text.replace("\r\n", "\n").translate(_CONTROLS).strip()
    if options.markup:
        text = without_markup(text).strip()
    if options.strip:
        text = _stripped(text)
    if not options.newlines:
        text = " ".join(text.split())
    # A lone surrogate is not valid text, and Arrow would refuse it.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _stripped(text: str) -> str:
    for _ in range(_ROUNDS):  # quotes may be inside a preamble, and a count inside the quotes
        before = text
        fenced = _FENCE.match(text)
        text = (fenced.group(1) if fenced else text).strip()
        for pattern in (PREAMBLE, PREAMBLE_ABROAD, _SURE, _TAG):
            text = _without_head(text, pattern)
        for pattern in (_COUNT, _NOTE, _CLOSING):
            text = _without_tail(text, pattern)
        text = _unquoted(text)
        if text == before:
            break
    return text


def _without_head(text: str, pattern: re.Pattern[str]) -> str:
    """Removes a preamble, unless it is the whole text."""
    found = pattern.match(text[:_EDGE])
    return (text[found.end() :].strip() or text) if found else text


def _without_tail(text: str, pattern: re.Pattern[str]) -> str:
    start = max(len(text) - _EDGE, 0)
    found = pattern.search(text[start:])
    return (text[: start + found.start()] if found else text).strip()


def _unquoted(text: str) -> str:
    """Removes the quotes around the whole text. If there are the same quotes inside, they belong to the text."""
    close = _QUOTES.get(text[:1])
    if close is None or len(text) < 2 or not text.endswith(close):
        return text
    inside = text[1:-1]
    return text if text[0] in inside or close in inside else inside.strip()


_NO_TEXT = {"filter": "filtered", "too long": "prompt too long", "failed": "service failed"}


def fault(text: str, *, finish: str, options: Cleaning) -> tuple[str, str | None]:
    """Returns the text of a cleaned answer, and why it is rejected (None: it is not).

    Args:
      text: the answer, cleaned.
      finish: why the model stopped, as of an `Answer`.
      options: the rules for rejecting.
    """
    if finish in _NO_TEXT:
        return text, _NO_TEXT[finish]
    if finish == "length" and options.cut != "keep" and text:
        if options.cut == "reject":
            return text, "cut"
        text = _whole_sentences(text)
    return text, _kind(text, options)


def _kind(text: str, options: Cleaning) -> str | None:
    if len(text) < options.least_characters:
        return "too short" if text else "empty"
    if len(text) > options.most_characters:
        return "too long"
    if options.refusals and declines(text):
        return "refusal"
    if options.language is not None and language_of(text) not in (options.language, None):
        return "other language"
    return None


def _whole_sentences(text: str) -> str:
    """Cuts a text after its last whole sentence, if at least a third of it is left. Else the text stays unchanged.

    >>> _whole_sentences("It was good. The room was cle")
    'It was good.'
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends and 3 * ends[-1] >= len(text) else text


def language_of(text: str) -> str | None:
    """Returns the language; None: there are too few letters to tell."""
    if sum(letter.isalpha() for letter in text) < 20:
        return None
    return str(_identifier().classify(text)[0])


@functools.lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        import py3langid
    except ImportError:
        raise MissingExtraError("to tell languages, the package py3langid is needed; install pe_beam[text]") from None
    return py3langid
