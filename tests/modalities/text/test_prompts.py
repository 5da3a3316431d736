"""Templates, variables, blanks, cleaning: plain functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.errors import RecipeError
from pe_beam.modalities.text.cleaning import clean, fault
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.options import Cleaning, LlmOptions
from pe_beam.modalities.text.prompts import mask, tokens_of, word_target
from pe_beam.modalities.variables import draw_variables, fill
from pe_beam.recipe.loading import load_recipe


def _options(**changes):
    plain = {"model": "m", "random": {"user": "Write."}, "vary": {"user": "Rephrase {sample}"}} | changes
    return LlmOptions.model_validate(plain)


def _rng(seed=0):
    return np.random.default_rng(seed)


@given(st.text(), st.floats(0, 1), st.integers(0, 2**32))
def test_blanks_keep_all_that_is_not_blanked(text, share, seed):
    masked = mask(text, share, _rng(seed), blank="█")
    assert len(tokens_of(masked.replace("█", "x"))) <= len(tokens_of(text)) * 2
    assert mask(text, 0.0, _rng(seed)) == "".join(tokens_of(text))
    assert not set(mask(text, 1.0, _rng(seed)).split()) - {"_" * n for n in range(1, 200)}


def test_the_share_of_blanks_is_what_was_asked_for():
    text = "word " * 20000
    share = mask(text, 0.3, _rng()).count("_") / 20000
    assert abs(share - 0.3) < 0.015  # 4.6 standard deviations


def test_word_targets_are_as_in_the_paper():
    text = "w " * 100
    targets = [word_target(text, sd=20, least=25, rng=_rng(i)) for i in range(4000)]
    assert abs(np.mean(targets) - 100) < 1.5
    assert 18.5 < np.std(targets) < 21.5
    assert word_target("short", sd=0, least=25, rng=_rng()) == 25


@given(st.text(), st.text())
def test_what_is_filled_in_is_not_looked_at_again(a, b):
    assert fill("{a}-{{}}-{b}", {"a": a, "b": b}) == f"{a}-{{}}-{b}"


def test_variables_depend_on_label_fields_and_on_each_other():
    options = _options(
        label_fields=["kind", "stars"],
        variables={
            "keyword": {"by": "kind", "values": {"Bars": "gin\nrum\n# a comment\n", "Hotels": ["bed"]}},
            "size": {"least": 3, "most": 5},
        },
        random={"user": "{kind} {stars} {keyword} {size} {label}"},
    )
    drawn = [draw_variables(options, "Bars | 4.0", _rng(i)) for i in range(60)]
    assert {v["keyword"] for v in drawn} == {"gin", "rum"}
    assert {v["size"] for v in drawn} == {"3", "4", "5"}
    assert drawn[0]["stars"] == "4.0" and drawn[0]["label"] == "Bars | 4.0"
    Llm(options, labels=["Bars | 4.0", "Hotels | 1.0"])
    with pytest.raises(RecipeError, match=r"variables\.keyword\.values: none for kind 'Shops'"):
        Llm(options, labels=["Shops | 1.0"])
    with pytest.raises(RecipeError, match="label_fields"):
        Llm(options, labels=["Bars"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"random": {"user": "{nothing}"}}, r"generator\.random\.user: \{nothing\} is not known; allowed"),
        ({"random": {"user": "{sample}"}}, r"generator\.random\.user: \{sample\}"),
        ({"vary": {"user": "{words}"}}, r"generator\.vary\.words"),
        ({"vary": {"user": "a { b"}}, "not a template"),
        ({"vary": {"user": "{a.b}"}}, "not a plain name"),
        ({"variables": {"sample": ["x"]}}, "used twice"),
        ({"variables": {"x": {"by": "y", "values": {"a": ["b"]}}}}, r"variables\.x\.by"),
        ({"format": "completion", "random": {"user": "x", "system": "y"}}, "system and examples"),
        ({"vary": {"user": "x", "sampling": {"top_p": 0}}}, "top_p"),
        ({"label_texts": {"c": "d"}}, "label_texts"),
    ],
)
def test_wrong_prompts_are_refused_by_name(changes, said):
    from pe_beam.contracts.service import Service, Surroundings

    with pytest.raises(RecipeError, match=said):
        Llm(_options(**changes), labels=["a"]).attach(Surroundings(iterations=3, service=Service(), folder=None))


def test_schedules_have_to_fit_the_run():
    from pe_beam.contracts.service import Service, Surroundings

    generator = Llm(_options(vary={"user": "{masked}", "mask_share": [0.5, 0.2]}), labels=["a"])
    generator.attach(Surroundings(iterations=2, service=Service(), folder=None))
    with pytest.raises(RecipeError, match=r"vary\.mask_share: .* a list of 3 numbers"):
        generator.attach(Surroundings(iterations=3, service=Service(), folder=None))


def test_prompts_may_lie_in_files_and_the_resolved_recipe_holds_their_content(tmp_path, texts):
    import yaml

    from pe_beam.recipe.identity import to_yaml

    (tmp_path / "tones.txt").write_text("calm\n\n# not this\nloud é\n")
    (tmp_path / "ask.txt").write_text("Rephrase, {tone}: {sample}")
    texts["generator"]["variables"]["tone"] = {"file": "tones.txt"}
    texts["generator"]["vary"]["user"] = {"file": "ask.txt"}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(texts))
    recipe = load_recipe(path)
    assert recipe.generator.options["variables"]["tone"] == ["calm", "loud é"]
    (tmp_path / "tones.txt").unlink()
    assert yaml.safe_load(to_yaml(recipe))["generator"]["vary"]["user"] == "Rephrase, {tone}: {sample}"
    with pytest.raises(RecipeError, match=r"generator\.variables\.tone\.file: 'tones\.txt' cannot be read"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (
            'Sure! Here is a rephrased version of the review:\n\n"Good food."\n\nLet me know if you need more.',
            "Good food.",
        ),
        ("Here's the text: Great. (20 words)", "Great."),
        ("Certainly! The rooms are nice.", "The rooms are nice."),
        ("```text\nfenced\n```", "fenced"),
        ("“Curly quotes all around”", "Curly quotes all around"),
        ("Nice place.\n\nI hope this helps!", "Nice place."),
        ("Nice. (Note: I kept the tone.)", "Nice."),
        ("Review: bad", "bad"),
        # What is the text's own stays.
        ("Here is why I love it: the sauce.", "Here is why I love it: the sauce."),
        ('I loved it. "Best" place "ever"', 'I loved it. "Best" place "ever"'),
        ('"A" and "B"', '"A" and "B"'),
        ("Tell me: who eats there?", "Tell me: who eats there?"),
        ("  many\n\n  spaces ", "many spaces"),
        ("a\ud800b", "a?b"),
    ],
)
def test_what_a_model_says_around_its_answer_comes_off(raw, wanted):
    assert clean(raw, Cleaning()) == wanted


@pytest.mark.parametrize(
    ("text", "finish", "options", "kind"),
    [
        ("fine", "stop", {}, None),
        ("", "stop", {}, "empty"),
        ("fine", "filter", {}, "filtered"),
        ("", "too long", {}, "prompt too long"),
        ("I'm sorry, but I can't help with that.", "stop", {}, "refusal"),
        ("I cannot fulfill this request.", "stop", {}, "refusal"),
        ("As an AI language model, I have no taste.", "stop", {}, "refusal"),
        ("I'm sorry to say that the soup was cold.", "stop", {}, None),
        ("I can't recommend this place enough!", "stop", {}, None),
        ("half an", "length", {"cut": "reject"}, "cut"),
        ("x" * 50, "stop", {"most_characters": 40}, "too long"),
        ("x", "stop", {"least_characters": 4}, "too short"),
        ("La comida estaba muy buena y el personal era amable.", "stop", {"language": "en"}, "other language"),
        ("The food was very good and the staff were friendly.", "stop", {"language": "en"}, None),
        ("ok!", "stop", {"language": "en"}, None),
    ],
)
def test_an_answer_that_is_none_is_told_by_its_kind(text, finish, options, kind):
    assert fault(text, finish=finish, options=Cleaning(**options))[1] == kind


def test_an_answer_that_was_cut_goes_back_to_its_last_sentence():
    assert fault("It was good. The room was cle", finish="length", options=Cleaning())[0] == "It was good."
    assert fault("no end at all", finish="length", options=Cleaning())[0] == "no end at all"
