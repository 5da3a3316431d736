"""Texts of every script: what masks, lengths, comparisons and cleaning take for a word, a sentence and a refusal."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.modalities.text.cleaning import clean, fault
from pe_beam.modalities.text.hashed import HashedWords, HashedWordsOptions
from pe_beam.modalities.text.options import Cleaning
from pe_beam.modalities.text.prompts import mask, word_target
from pe_beam.modalities.text.remarks import declines
from pe_beam.modalities.text.view import TextView
from pe_beam.modalities.text.words import tokens_of, word_count

CHINESE = "这家餐厅的菜很好吃，服务员也很热情。下次还会再来！"
LATIN = re.compile(r"\s*[\w'’]+|\s*[^\w\s]")  # words and signs where spaces part words and letters carry no marks


@given(st.text(alphabet="abÉßжé09_'’ \t\n.,!?-–“”…€한국", max_size=60))
def test_texts_with_spaces_between_words_are_parted_at_them(text):
    assert tokens_of(text) == LATIN.findall(text)
    assert word_count(text) == len(text.split())


@given(st.text(max_size=60))
def test_no_letter_of_any_text_is_lost(text):
    tokens = tokens_of(text)
    assert "".join(tokens).rstrip() == text.rstrip()
    assert all(token.strip() for token in tokens)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("हिन्दी में", ["हिन्दी", " में"]),  # vowel signs are marks, which \w does not take
        ("مرحبًا بك", ["مرحبًا", " بك"]),
        ("می‌خواهم", ["می‌خواهم"]),  # with a non-joiner inside
        ("cafe\u0301 ❤️", ["cafe\u0301", " ❤️"]),
        ("東京はTシャツ", ["東", "京", "は", "Tシャツ"]),
        ("ดี มาก", ["ดี", " ม", "า", "ก"]),
    ],
)
def test_marks_stay_with_their_letter_and_an_ideograph_is_a_word(text, wanted):
    assert tokens_of(text) == wanted


def test_half_of_a_text_without_spaces_is_masked_and_not_all_or_none():
    masked = mask(CHINESE, 0.5, np.random.default_rng(0))
    assert len(masked) == len(CHINESE) and 5 < masked.count("_") < 20
    assert all(after in (before, "_") for before, after in zip(CHINESE, masked, strict=True))


def test_a_length_to_aim_at_follows_the_parent_in_every_script():
    rng = np.random.default_rng(0)
    assert word_target("one two three", sd=0, least=1, rng=rng) == 3
    assert word_target(CHINESE * 4, sd=0, least=25, rng=rng) == 4 * 22  # it was the least, whatever the parent's length
    assert word_target("ฉันชอบกินข้าวผัด" * 10, sd=0, least=1, rng=rng) == 40


def test_hashed_words_find_the_nearest_text_without_spaces():
    texts = [CHINESE, "这家餐厅的菜很难吃，服务员不热情。", "手机电池只能用半天，屏幕却很清楚。"]
    vectors = HashedWords(HashedWordsOptions()).embed(pa.table({"text": texts})).vectors
    assert vectors[0] @ vectors[1] > 2 * abs(vectors[0] @ vectors[2])


def test_a_report_marks_the_characters_that_changed():
    shown = TextView().fragment({"text": "那家餐厅很好。"}, {"text": "这家餐厅很好。"})
    assert "<del>这</del><ins>那</ins>家餐厅很好。" in shown
    assert TextView().fragment({"text": "好" * 500}).count("好") == 419
    assert "was <del>old</del> <ins>new</ins>, so" in TextView().fragment(
        {"text": "was new, so"}, {"text": "was old, so"}
    )


@pytest.mark.parametrize(
    ("cut", "wanted"),
    [
        ("菜很好吃。服务也很好！房间有点", "菜很好吃。服务也很好！"),
        ("「美味しい。」と言った。部屋は", "「美味しい。」と言った。"),
        ("खाना अच्छा था। कमरा सा", "खाना अच्छा था।"),
        ("کھانا اچھا تھا۔ کمرہ صا", "کھانا اچھا تھا۔"),
        ("كيف الطعام؟ الغرفة نظ", "كيف الطعام؟"),
    ],
)
def test_an_answer_that_was_cut_ends_with_a_sentence_of_its_script(cut, wanted):
    assert fault(cut, finish="length", options=Cleaning())[0] == wanted


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("好的，以下是改写后的评论：\n\n“菜很好吃。”", "菜很好吃。"),
        ("以下は書き直したレビューです：\n「美味しい店です。」", "美味しい店です。"),
        ("Natürlich! Hier ist die überarbeitete Bewertung:\n„Sehr gutes Essen.“", "Sehr gutes Essen."),
        ("Bien sûr ! Voici une nouvelle version de l'avis :\n\n« Très bon repas. »", "Très bon repas."),
        ("¡Claro! Aquí tienes la reseña: Muy rico.", "Muy rico."),
        ("以下是我喜欢它的理由：便宜。", "以下是我喜欢它的理由：便宜。"),
        ("「A」と「B」", "「A」と「B」"),
        ("Ecco perché torno: la pasta.", "Ecco perché torno: la pasta."),
    ],
)
def test_what_a_model_says_around_its_answer_comes_off_in_its_language(raw, wanted):
    assert clean(raw, Cleaning()) == wanted


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("抱歉，我无法提供您要求的内容。", True),
        ("作为一个人工智能语言模型，我没有味觉。", True),
        ("申し訳ありませんが、その内容を作成することはできません。", True),
        ("AI言語モデルとして、個人的な意見はありません。", True),
        ("죄송하지만 요청하신 글을 작성할 수 없습니다.", True),
        ("Lo siento, pero no puedo ayudar con eso.", True),
        ("Je suis désolé, mais je ne peux pas vous aider.", True),
        ("Es tut mir leid, aber ich kann dabei nicht helfen.", True),
        ("Als KI-Sprachmodell habe ich keinen Geschmack.", True),
        ("Desculpe, mas não posso ajudar com isso.", True),
        ("Mi dispiace, ma non posso aiutarti.", True),
        # A person says these.
        ("抱歉来晚了，这家店真不错。", False),
        ("Lo siento, no puedo recomendar este sitio.", False),
        ("申し訳ありませんが、星二つです。", False),
        ("Es tut mir leid, ich kann das Lokal nicht empfehlen.", False),
        ("Je suis désolée, je ne peux pas y retourner.", False),
        ("죄송하지만 추천할 수 없습니다.", False),
    ],
)
def test_refusals_are_told_in_the_languages_that_models_refuse_in(text, refuses):
    assert declines(text) is refuses
