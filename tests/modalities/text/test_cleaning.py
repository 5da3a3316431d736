"""Cleaning takes time in proportion to an answer, whatever the model repeats, and takes off what it always took."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.modalities.text import cleaning
from pe_beam.modalities.text.cleaning import clean, fault
from pe_beam.modalities.text.options import Cleaning
from pe_beam.modalities.text.remarks import PREAMBLE, PREAMBLE_ABROAD

SIZE = 250_000
RUNS = [
    "\n", " ", "\n ", "\t", '"', "'", "“", "(", "[", ")", "7", "`", "```\n", "a", "- ", ". ", ".", '."', "é", "\u3000",
    "I hope this helps ", "I hope this helps\n", "(note ", "(note) ", "(5 words) ", "Review: ", "Sure! ", "sure ",
    "here is ", "Here is the text: ", "word count: 5 ", "as an ai ", "rephras", "i'm sorry, ",
]  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_a_quarter_of_a_million_characters_take_no_minutes(run):
    body = run * (SIZE // len(run))
    began = time.process_time()
    for text in (body, f"hello{body}b", f"Sure!{body}b", f'"{body}', f"({body}", f"b. {body}(note: x)"):
        fault(clean(text, Cleaning()), finish="length", options=Cleaning())
    assert time.process_time() - began < 5  # six of them; what was quadratic took minutes


PIECES = [
    "Sure! ", "Certainly. ", "Here is the text: ", "Here's a rephrased version of the review:\n\n", "Review: ", "text:",
    "good food", "I loved it.", " ", "\n", "\n\n", '"', "'", "“", "”", "```text\n", "```", "\n```", "(20 words)",
    "[about 7 words ]", "Word count: 12", "(Note: I kept it)", "(note", ")", "I hope this helps!",
    "Let me know if", "hope this helps", "is there anything else", "x" * 250,
]  # fmt: skip


def _plainly(text):
    """What comes off when all of an answer is gone over, until nothing changes."""
    before = None
    while before != text:
        before = text
        fenced = cleaning._FENCE.match(text)
        text = (fenced.group(1) if fenced else text).strip()
        for pattern in (PREAMBLE, PREAMBLE_ABROAD, cleaning._SURE, cleaning._TAG):
            rest = pattern.sub("", text, count=1)
            text = rest if rest.strip() else text
        for pattern in (cleaning._COUNT, cleaning._NOTE, cleaning._CLOSING):
            text = re.sub(r"\s*" + pattern.pattern, "", text, flags=re.IGNORECASE).strip()
        text = cleaning._unquoted(text)
    return text


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=10).map("".join))
def test_nothing_else_comes_off_than_by_going_over_all_of_it(text):
    assert cleaning._stripped(text.strip()) == _plainly(text.strip())


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_around_a_long_answer_the_same_comes_off(text):
    long = text + "The soup was warm. " * 400 + text
    assert cleaning._stripped(long.strip()) == _plainly(long.strip())


def test_what_steers_a_terminal_comes_off_and_blanks_and_emoji_stay():
    assert clean("a\x00b \x1b[31mred\x07\x9b2J\x7f", Cleaning(newlines=True)) == "ab [31mred2J"
    assert clean("a\tb\nc 👩\u200d💻\ufe0f é", Cleaning(newlines=True)) == "a\tb\nc 👩\u200d💻\ufe0f é"
