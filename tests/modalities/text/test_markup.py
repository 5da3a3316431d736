"""Reasoning and tokens of turns that models leave in answers: each family's form, broken forms, and ordinary texts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.contracts.newer import without_newer_defaults
from pe_beam.modalities.text.cleaning import clean, fault
from pe_beam.modalities.text.markup import without_markup
from pe_beam.modalities.text.options import Cleaning, LlmOptions

WHY = "Okay, they want a review. I should mention 1 < 2 and [this]."
SOUP = "Soup was warm."


def _cleaned(raw: str) -> str:
    return clean(raw, Cleaning())


FAMILIES = [
    "<think>{why}</think>{soup}",
    "<think>\n{why}\n</think>\n\n{soup}",
    "<think></think>\n\n{soup}",
    "<think/>{soup}",
    "<thinking>{why}</thinking> {soup}",
    '<thinking mode="deep">{why}</thinking> {soup}',
    "<THINK>{why}</Think>{soup}",
    "<antThinking>{why}</antThinking>{soup}",
    "<thought>{why}</thought>{soup}",
    "<thoughts>{why}</thoughts>{soup}",
    "<reasoning>{why}</reasoning><answer>{soup}</answer>",
    "<analysis>{why}</analysis>\n{soup}",
    "<scratchpad>{why}</scratchpad>{soup}",
    "<inner_monologue>{why}</inner_monologue>{soup}",
    "<thinking>{why}<reflection>{why}</reflection></thinking><output>{soup}</output>",
    "<seed:think>{why}<seed:cot_budget_reflect>{why}</seed:cot_budget_reflect>{why}</seed:think>{soup}",
    "<longcat_think>{why}</longcat_think>{soup}",
    "<mm:think>{why}</mm:think>{soup}",
    "&lt;think&gt;{why}&lt;/think&gt;{soup}",
    "[THINK]{why}[/THINK]{soup}",
    "◁think▷{why}◁/think▷{soup}",
    "<think>{why}</think><answer>{soup}</answer>",
    "<think>{why}</think>\n<response>\n{soup}\n</response>",
    "<|begin_of_thought|>{why}<|end_of_thought|>\n<|begin_of_solution|>{soup}<|end_of_solution|>",
    "<|START_THINKING|>{why}<|END_THINKING|><|START_RESPONSE|>{soup}<|END_RESPONSE|>",
    "<think>{why}</think><|begin_of_box|>{soup}<|end_of_box|>",
    "<|inner_prefix|>{why}<|inner_suffix|>{soup}",
    "<|think|>{why}<|end|><|begin|>assistant<|content|>{soup}<|end|>",
    "<|think_start|>{why}<|think_end|>{soup}",
    "<unused94>thought\n{why}<unused95>{soup}",
    "<|channel>thought\n{why}<channel|>{soup}<turn|>",
    "[unused16]{why}[unused17]{soup}",
    "<|channel|>analysis<|message|>{why}<|end|><|start|>assistant<|channel|>final<|message|>{soup}<|return|>",
    "{why}<|end|><|start|>assistant<|channel|>final<|message|>{soup}",
    "<|channel|>analysis<|message|>{why}<|end|><|start|>assistant<|channel|>commentary to=x <|constrain|>json"
    "<|message|>{why}<|call|><|start|>assistant<|channel|>final<|message|>{soup}",
    "analysis{why}assistantfinal{soup}",
    "Here is my thought process:\n{why}\nHere is my response:\n{soup}",
    "Here are my reasoning steps:\n{why}\n[BEGIN FINAL RESPONSE]\n{soup}\n[END FINAL RESPONSE]\n<|end|>",
    '<details type="reasoning" done="true"><summary>Thought for 3 seconds</summary>{why}</details>\n{soup}',
    # Broken ones.
    "{why}</think>{soup}",
    "{why}\n</thinking>\n{soup}",
    "{why}[/THINK]{soup}",
    "{why}◁/think▷{soup}",
    "{why}<|END_THINKING|>{soup}",
    "<think>\n<think>\n{why}</think>{soup}",
    "<think>{why}<think>{why}</think>{why}</think>{soup}",
    "<think>{why}<reasoning>{why}</think>{soup}",
    "<think>{why}</thinking>{soup}",
    "<think>{why}</think>{soup}<think>{why}",
    "<think>{why}</think><think>{why}</think>{soup}",
    "```\n<think>{why}</think>\n{soup}\n```",
    "<think>{why}</think>\n```text\n{soup}\n```",
    '<think>{why}</think>Sure! Here is the review:\n"{soup}"',
]


@pytest.mark.parametrize("form", FAMILIES)
def test_reasoning_comes_off_and_the_answer_stays(form):
    assert _cleaned(form.format(why=WHY, soup=SOUP)) == SOUP


@pytest.mark.parametrize(
    "form",
    [
        "<think>{why}",
        "<think>{why}\n\n{soup}",
        "<think>{why}</think>",
        "<think>{why}</think>\n\n",
        "<thinking>{why}<thinking>{why}</thinking>{soup}",
        "[THINK]{why}",
        "◁think▷{why}",
        "<|channel|>analysis<|message|>{why}",
        "<|channel|>analysis<|message|>{why}<|end|><|start|>assistant",
        "<|channel|>anal",
        "{why}<|end|><|start|>assistant<|channel|>commentary<|message|>{why}",
        "analysis{why}",
        "Here is my thought process: {why}",
        "<unused94>thought\n{why}",
        "<|START_THINKING|>{why}",
        "{why}</think>",
        '<details type="reasoning" done="false">{why}',
        "<think>{why}" * 5 + "</think>" * 4 + "{soup}",
        "<think>{why}" * 200 + "</think>" * 200 + "{soup}",
    ],
)
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_reasoning_without_an_end_or_an_answer_is_an_empty_answer(form, finish):
    text = _cleaned(form.format(why=WHY, soup=SOUP))
    assert fault(text, finish=finish, options=Cleaning()) == ("", "empty")


@pytest.mark.parametrize(
    "form",
    [
        "{}<|im_end|>", "{}\n<|im_end|>\n", "{}</s>", "{}</s></s>", "<s>{}</s>", "{}<|eot_id|>", "{}<|eom_id|>",
        "{}<|endoftext|>", "{}<|end_of_text|>", "{}<|end|>", "{}<|return|>", "{}<end_of_turn>", "{}<turn|>", "{}<eos>",
        "{}<pad><pad>", "{}<｜end▁of▁sentence｜>", "{}<|END_OF_TURN_TOKEN|>", "{}[|endofturn|]", "{} [end of text]",
        "{}<end_of_utterance>", "{}<|EOT|>", "{}<|user|>\nAnother!", "<|assistant|>{}", "<|im_start|>assistant\n{}",
        "{}<|im_end|>\n<|im_start|>user\nAnother one.<|im_end|>",
        "{}<|eot_id|><|start_header_id|>user<|end_header_id|>\nMore.",
        "<|start_header_id|>assistant<|end_header_id|>\n\n{}",
        "<start_of_turn>model\n{}<end_of_turn>\n<start_of_turn>user",
        "{}</s>[INST] And one more [/INST]", "{}</s>\nUser: another one",
        "<|start_of_role|>assistant<|end_of_role|>{}<|end_of_text|>", "<｜Assistant｜>{}",
    ],
)  # fmt: skip
def test_tokens_of_a_turn_come_off(form):
    assert _cleaned(form.format(SOUP)) == SOUP


@pytest.mark.parametrize(
    "text",
    [
        "I think it was good, </b> and thinking of it, <b>great</b>.",
        "Was <s>5</s> 4 euros, <s>6</s>",
        "<s>Old price.</s> New price.",
        "We feed the </s> token to the encoder, and <pad> after it.",
        "A <reason>late</reason> and an <analysis> in XML.",
        "<response><code>200</code></response>",
        "Analysis of soups. assistant: none. [think] of it.",
        "<details>More</details>",
        "Here is my thought: good soup.",
        "a < b and c > d, x <thinker> y",
    ],
)
def test_what_may_be_a_texts_own_stays(text):
    assert without_markup(text) == text


@given(st.text(st.characters(exclude_characters="<&[◁")))
def test_a_text_without_marks_stays(text):
    if not text.lstrip().lower().startswith(("here", "analysis", "assistant", "commentary")):
        assert without_markup(text) == text


MARKS = ["<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "<analysis>"]
MARKS += ["</analysis>", "<|begin_of_thought|>", "<|end_of_thought|>", "<|im_end|>", "</s>", "\n", "REASON ", "REASON"]


@given(
    st.lists(st.sampled_from(MARKS), max_size=12).map("".join), st.sampled_from(["<think>", "<thinking>", "[THINK]"])
)
def test_what_stands_after_the_last_opening_mark_is_never_kept(before, opening):
    assert "SECRET" not in without_markup(f"{before}{opening}SECRET")
    assert "SECRET" not in without_markup(f"{before}{opening}SECRET{opening.replace('<', '</').replace('[', '[/')}")


@given(st.lists(st.sampled_from([mark for mark in MARKS if "/" in mark or "REASON" in mark]), max_size=9).map("".join))
def test_what_stands_before_a_closing_mark_that_nothing_opened_is_never_kept(between):
    assert without_markup(f"SECRET{between}</think>soup") == "soup"


@pytest.mark.parametrize(
    "run",
    [
        *MARKS,
        "<think>a",
        "<",
        "<|",
        "</s> ",
        "<s> ",
        "a <pad>",
        "<|im_start|>  ",
        "<|channel|>a",
        "&lt;",
        "<think ",
        "<x:",
    ],
)
def test_marks_without_end_take_no_minutes(run):
    body = run * (100_000 // len(run))
    began = time.process_time()
    for text in (body, f"<think>{body}b", f"{body}</think>b", f"a{body}</s>", f"<|channel|>{body}b"):
        without_markup(text)
    assert time.process_time() - began < 2


def test_markup_is_kept_where_the_recipe_says_so_and_the_key_is_newer_than_recipes():
    raw = "<think>A riddle.</think> <answer>Soup.</answer>"
    assert clean(raw, Cleaning(markup=False)) == raw
    assert "markup" not in without_newer_defaults(Cleaning(), Cleaning().model_dump())
    plain = {"model": "m", "random": {"user": "x"}, "vary": {"user": "y"}, "cleaning": {"markup": False}}
    options = LlmOptions.model_validate(plain)
    assert without_newer_defaults(options, options.model_dump())["cleaning"]["markup"] is False
