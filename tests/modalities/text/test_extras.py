"""Without the extra `text` everything else works, and what needs it says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pe_beam.errors import MissingExtraError

HIDE = "import sys; sys.modules.update({name: None for name in ('openai', 'torch', 'transformers', 'py3langid')}); "


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, check=False, timeout=600)
    return done.stdout + done.stderr


def test_recipes_and_plans_need_no_extra():
    code = (
        "from pe_beam.recipe.loading import load_recipe; from pe_beam.recipe.costs import estimate_costs; "
        "print(estimate_costs(load_recipe('templates/recipes/abstracts-openai.yaml')).calls)"
    )
    assert _python(code).split()[-1] == "62000"


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("from pe_beam.modalities.text.openai_client import import_openai; import_openai()", "openai"),
        ("from pe_beam.modalities.text.huggingface import _tokenizer; _tokenizer('x', None)", "transformers"),
        ("from pe_beam.modalities.text.cleaning import _identifier; _identifier()", "py3langid"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(code, package):
    said = _python(code)
    assert "MissingExtraError" in said and package in said and "pe_beam[text]" in said


def test_sentence_transformers_that_is_missing_is_named(monkeypatch):
    import importlib.util

    from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"install pe_beam\[text\]"):
        SentenceEmbedder(SentenceOptions(model="m"))
