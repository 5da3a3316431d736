"""What a model says about its answer, and how it refuses one, in the languages that answers are mostly asked in."""

from __future__ import annotations

import re

# Openings that talk about the answer, up to a colon: "Sure! Here is a rephrased version of the review:".
PREAMBLE = re.compile(
    r"^(?:(?:sure|certainly|of course|absolutely|okay|ok|great)\b[^:\n]{0,60}?[!,.]?\s*)?"
    r"(?:here(?:'s|’s| is| are)|below is|this is|the following is|(?:re)?phrased|revised|rewritten|filled[- ]in|"
    r"completed)\b"
    r"(?=[^:\n]{0,160}\b(?:version|review|text|abstract|variation|rephras\w*|rewrit\w*|answer|response|example|sample|"
    r"sentence|paragraph|message)s?\b)[^:\n]{0,160}:\s*",
    re.IGNORECASE,
)
PREAMBLE_ABROAD = re.compile(
    r"^(?:¡?(?:claro(?: que sí)?|por supuesto|com certeza|natürlich|gerne?|bien sûr|certainement|certo|certamente|好的|"
    r"当然(?:可以)?|當然(?:可以)?|はい|もちろんです|네|물론입니다)\s*[!！,，、。.]?\s*)?"
    r"(?:hier ist|voici|aquí (?:tienes|está)|aqui está|ecco|以下[是為为は]|下面[是為为]|这是|這是|다음은)"
    r"(?=[^:：\n]{0,120}(?:version|versión|versão|versione|text|testo|rezension|bewertung|beispiel|reseña|ejemplo|"
    r"critique|avis|exemple|avaliação|exemplo|recensione|esempio|评论|評論|文本|版本|改写|改寫|内容|內容|示例|摘要|"
    r"文章|テキスト|レビュー|バージョン|リライト|리뷰|텍스트|문장|버전))[^:：\n]{0,120}[:：]\s*",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^(?:i(?:'|’)?m sorry,? (?:but|i)|sorry,? (?:but )?i (?:can|am|will)|i apologi[sz]e,? but|i (?:can(?:'|’)?t|"
    r"cannot|am unable to|am not able to|won(?:'|’)?t) (?:assist|help|fulfil|fulfill|comply|provide|create|generate|"
    r"write|produce|continue|do that|rephrase|complete)|i(?:'|’)?m (?:unable|not able) to)|"
    r"\bas an ai(?: language)? (?:model|assistant)\b|\bi(?:'|’)?m an ai\b",
    re.IGNORECASE,
)
# An excuse and an inability to do what was asked, at the beginning; reviews have "lo siento, no puedo recomendarlo".
_REFUSAL_ABROAD = re.compile(
    r"^(?:"
    r"lo siento,? (?:pero )?no puedo (?:ayudar|asistir|cumplir|proporcionar|generar|escribir|crear|completar)|"
    r"(?:desculpe|lamento|sinto muito),? (?:mas )?(?:eu )?não posso (?:ajudar|atender|fornecer|gerar|escrever|criar)|"
    r"(?:je suis )?désolée?,? (?:mais )?je ne (?:peux|suis) pas (?:en mesure de |capable de )?(?:vous )?"
    r"(?:aider|fournir|générer|écrire|rédiger|créer|répondre)|"
    r"(?:es )?tut mir leid,? (?:aber )?ich kann (?:dir |ihnen |das |dabei |diese[nrs]? )?[^.!?]{0,40}nicht "
    r"(?:helfen|weiterhelfen|erstellen|schreiben|erzeugen|erfüllen|bereitstellen)|"
    r"mi dispiace,? (?:ma )?non posso (?:aiutar|fornir|generar|scriver|crear|completar)|"
    r"(?:非常|很)?(?:抱歉|对不起|對不起)[，,。]?\s*(?:但是?)?我?(?:无法|無法|不能)[^。！？]{0,12}"
    r"(?:提供|协助|協助|帮助|幫助|满足|滿足|完成|生成|回答|继续|繼續|撰写|撰寫)|"
    r"(?:大変)?(?:申し訳(?:ありません|ございません)|すみません|ごめんなさい)が?[、。]?[^。]{0,40}"
    r"(?:お手伝い|お応え|お答え|提供|生成|作成)[^。]{0,12}(?:できません|できかねます|いたしかねます)|"
    r"죄송(?:하지만|합니다만?)[,.]?[^.]{0,40}(?:도와|도움을|제공|생성|작성)[^.]{0,12}수 없습니다"
    r")|"
    r"\bcomo (?:un |uma? )?(?:modelo de (?:lenguaje|linguagem|ia)|asistente de ia|assistente de ia)\b|"
    r"\ben tant qu(?:e |['’])(?:modèle de langage|ia\b|intelligence artificielle)|"
    r"\bals (?:ein )?(?:ki-|ki\b|künstliche intelligenz|sprachmodell)|"
    r"\bcome modello (?:linguistico|di linguaggio|ia\b)|"
    r"作[为為](?:一[个個名种種])?\s*(?:ai|人工智[能慧])\s*(?:语言|語言)?\s*(?:模型|助手)|"
    r"(?:ai|人工知能)(?:言語)?(?:モデル|アシスタント)として|(?:ai|인공지능)\s*(?:언어\s*)?모델로[서써]|"
    r"(?:ai|एआई) (?:भाषा )?मॉडल के (?:रूप में|तौर पर)",
    re.IGNORECASE,
)


def declines(text: str) -> bool:
    """Returns whether an answer refuses, or speaks of being a model.

    >>> declines("I'm sorry, but I can't help with that."), declines("抱歉，我无法提供帮助。"), declines("抱歉来晚了。")
    (True, True, False)
    """
    return bool(_REFUSAL.search(text) or _REFUSAL_ABROAD.search(text))
