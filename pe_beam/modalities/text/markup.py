"""Removes a model's markup from its answers: reasoning in marks, and tokens that begin and end a turn.

Servers that know a model remove both. Other servers pass them on. Each family of models has its own form. The opening
mark is often in the prompt, and the closing mark is missing if the tokens ran out. Text that cannot be told from
reasoning is not an answer.
"""

from __future__ import annotations

import re

# Names that are tags in no text of people, and names that count only where an answer begins with them.
_SURE = r"(?:ant)?think(?:ing)?|thoughts?|reasoning"
_BEGINS = (
    r"analysis|reflect(?:ions?)?|scratchpad|rationale|(?:inner|internal)_(?:monologue|thoughts?)|chain_of_thought|cot"
)
_PAIRS = {
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<unused94>": "<unused95>",  # MedGemma
    "[unused16]": "[unused17]",  # Pangu
    "<|channel>": "<channel|>",  # Gemma
    "◁think▷": "◁/think▷",  # Kimi
    "[THINK]": "[/THINK]",  # Magistral
}
_OPENING = {opening: opening for opening in _PAIRS}
_CLOSING = {closing: opening for opening, closing in _PAIRS.items()}
_MARK = re.compile(
    # <think>, </seed:think>, <thinking mode="x">, and with its brackets escaped.
    rf"(?:<|&lt;)(?P<shut>/?)\s?(?:[\w.-]{{1,20}}[:_])?(?P<tag>{_SURE}|{_BEGINS})(?:\s[^<>&]{{0,200}})?(?P<lone>/?)(?:>|&gt;)"
    # <|think|>, <|begin_of_thought|>, <|END_THINKING|>, <|think_start|>.
    rf"|<\|(?P<end>/|end_(?:of_)?)?(?:(?:begin|start)_(?:of_)?)?(?:{_SURE})(?:_(?:start|begin)|(?P<stop>_(?:end|stop)))?\|>"
    # As chat pages write it.
    r"|(?P<details><details\s[^>]{0,200}type=[\"']?reasoning[^>]{0,200}>)|(?P<summary></details>)"
    r"|(?P<content><\|content\|>)"
    rf"|(?P<pair>(?-i:{'|'.join(re.escape(mark) for mark in (*_OPENING, *_CLOSING))}))",
    re.IGNORECASE,
)
_DEEPEST = 64
"""Largest depth of nested marks. An answer with deeper marks is empty."""

# gpt-oss: channels, and the rest of their marks if a server has dropped the special tokens.
_CHANNEL = "<|channel|>"
_HEADER = re.compile(r"<\|channel\|>\s{0,9}(\w{1,40})[^<]{0,200}(?:<\|constrain\|>[^<]{0,200})?<\|message\|>")
_BARE_CHANNEL = re.compile(r"(?:assistant)?(?:analysis|commentary)(?=[A-Z\"'“‘(])")
_BARE_FINAL = "assistantfinal"

# Families of models that announce reasoning and answer in words.
_SAID = (
    (
        re.compile(r"here(?:'s|’s| is) my (?:thought|thinking|reasoning) process:", re.IGNORECASE),  # Granite
        re.compile(r"here(?:'s|’s| is) my (?:response|answer):", re.IGNORECASE),
    ),
    (
        re.compile(r"here are my reasoning steps:", re.IGNORECASE),  # Apriel
        re.compile(r"\[BEGIN FINAL RESPONSE\]"),
    ),
)

_STARTS = (
    r"<[|｜](?:im_start|start|begin|role_start|start_header_id|start_of_role)[|｜]>|<start_of_turn>|<\|turn>"
    r"|<\|START_OF_TURN_TOKEN\|>"
)
_TURN = (
    r"<[|｜]/?(?:im_\w{1,20}|eo[a-z]{1,2}(?:_id|_token)?|start|begin|end|return|call|message|content"
    r"|(?:begin|start|end)[_▁]?(?:of)?[_▁]?(?:text|turn|prompt|sentence|role|solution|response|message|document|box"
    r"|header_id|turn_token|utterance)|role_(?:start|end)|(?:user|assistant|system|chatbot|observation)(?:_token)?"
    r"|pad|python_tag)[|｜]>"
    r"|<(?:start|end)_of_(?:turn|utterance)>|<\|turn>|<turn\|>|\[\|(?:endofturn|assistant|user|system)\|\]"
    r"|(?-i:\[/?INST\]|\[(?:BEGIN|END) FINAL RESPONSE\])"
)
_ROLE = rf"(?:{_STARTS})\s*(?:assistant|model|bot)\b"
_LEADING = re.compile(rf"(?:\s*(?:{_ROLE}|{_TURN}))+", re.IGNORECASE)
_LEADING_ALL = re.compile(rf"(?:\s*(?:{_ROLE}|{_TURN}|<s>|<bos>))+", re.IGNORECASE)
_ENDS = re.compile(_TURN, re.IGNORECASE)
# A text itself may contain these. They end a turn only at the end of the text or of a sentence.
_FAINT = r"(?:</s>|<(?:eos|eod|eot|pad|unk)>|\[end of text\])"
_AFTER_SENTENCE = re.compile(rf"(?<=[.!?…。！？\"'”’)\]*\n]){_FAINT}", re.IGNORECASE)
_ANYWHERE = re.compile(_FAINT, re.IGNORECASE)
_STRUCK = re.compile(r"[^\s<>]\s{0,9}<s>|<s>[^<]*</s>\s*[^\s<]", re.IGNORECASE)  # HTML that strikes words out

_WRAPPED = re.compile(r"<(answer|final_answer)>", re.IGNORECASE)
_WRAPPED_AFTER_REASONING = re.compile(
    r"<(answer|response|output|final|final_answer|final_response|solution)>", re.IGNORECASE
)


def without_markup(text: str) -> str:
    """Returns only the answer: no reasoning, no tokens that frame a turn, no tag around all of it. It may be empty.

    >>> without_markup("<think>They want a review.</think>Good soup.<|im_end|>")
    'Good soup.'
    >>> without_markup("They want a review.</think>Good soup.")
    'Good soup.'
    >>> without_markup("<think>They want a rev")
    ''
    """
    spoken = _unmarked(_after_words(_final_channel(text)))
    return _unwrapped(_one_turn(spoken), _WRAPPED if spoken == text else _WRAPPED_AFTER_REASONING)


def _final_channel(text: str) -> str:
    if _CHANNEL in text:
        parts = _HEADER.split(text)  # what is before, then channel, text, channel, text
        finals = (body for name, body in zip(parts[1::2], parts[2::2], strict=True) if name == "final")
        return next((body for body in finals if body.strip()), "")
    if _BARE_FINAL in text:
        return text.rpartition(_BARE_FINAL)[2]
    return "" if _BARE_CHANNEL.match(text.lstrip()) else text


def _after_words(text: str) -> str:
    for opening, closing in _SAID:
        begun = opening.match(text.lstrip())
        if begun:
            ended = closing.search(text)
            return text[ended.end() :] if ended else ""
    return text


def _unmarked(text: str) -> str:
    """Removes what is between marks of reasoning.

    A closing mark without an opening one ends reasoning that began in the prompt. A mark that closes an outer mark also
    closes the inner ones. An opening mark that comes twice in a row counts once.
    """
    kept: list[str] = []
    opened: list[str] = []
    said = False  # whether anything is kept so far
    before = start = 0
    for mark in _MARK.finditer(text):
        between = text[before : mark.start()].strip()
        said = said or (bool(between) and not opened)
        before = mark.end()
        name, closes, sure = _read(mark)
        if closes and opened:
            if name in opened:
                del opened[len(opened) - 1 - opened[::-1].index(name) :]
            elif sure:
                opened.pop()
            start = before
        elif closes and sure:
            kept, said, start = [], False, before
        elif not closes and (sure or opened or not said):
            if not opened:
                kept.append(text[start : mark.start()])
                start = before
            twice = bool(opened) and opened[-1] == name and not between
            if not mark["lone"] and not twice:
                opened.append(name)
            if len(opened) > _DEEPEST:
                return ""
    return "".join([*kept, "" if opened else text[start:]])


def _read(mark: re.Match[str]) -> tuple[str, bool, bool]:
    """Returns a mark's name, whether it closes, and whether it is a mark at any place in a text."""
    whole = mark.group()
    if mark["pair"]:
        return _CLOSING.get(whole, whole), whole in _CLOSING, True
    if mark["tag"]:
        name = mark["tag"].lower()
        return name, bool(mark["shut"]), re.fullmatch(_SURE, name) is not None
    if mark["details"] or mark["summary"]:
        return "details", bool(mark["summary"]), bool(mark["details"])
    if mark["content"]:
        return "token", True, False
    return "token", bool(mark["end"] or mark["stop"]), True


def _one_turn(text: str) -> str:
    """Returns the first turn, without the tokens around it."""
    struck = _STRUCK.search(text) is not None
    begun = (_LEADING if struck else _LEADING_ALL).match(text)
    text = text[begun.end() :] if begun else text
    ended = _ENDS.search(text)
    text = text[: ended.start()] if ended else text
    if struck:
        return text
    faint = _AFTER_SENTENCE.search(text)
    end = faint.start() if faint else len(text)
    for token in reversed(list(_ANYWHERE.finditer(text, 0, end))):
        if text[token.end() : end].strip():
            break
        end = token.start()
    return text[:end]


def _unwrapped(text: str, tags: re.Pattern[str]) -> str:
    begun = tags.match(text.lstrip())
    if begun is None:
        return text
    inside = text.lstrip()[begun.end() :]
    ended = re.search(f"</{begun[1]}>", inside, re.IGNORECASE)
    return inside[: ended.start()] if ended else inside
