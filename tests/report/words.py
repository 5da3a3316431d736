"""A third party's modality, with texts and labels that mean harm."""

from __future__ import annotations

import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import Section, View
from pe_beam.report.html import tag

HOSTILE = ["</script><img src=x onerror=alert(1)>", "$\\frac{", "a\"b'&amp;"]


class Words(View):
    """A third party's: words, with those that changed marked, and a section of its own."""

    gallery_size = 4

    def fragment(self, record, parent=None, *, large=False):
        old = set(parent["text"].split()) if parent else None
        words = [
            tag("mark" if old is not None and word not in old else "span", word) for word in record["text"].split()
        ]
        return tag("p", tag("span", " ").join(words))

    def alt(self, record):
        return record["text"][:20]

    def sections(self, history):
        longest = max(len(x) for x in history.population(history.last, ["text"])["text"].to_pylist())
        return [Section(key="lengths", title="Lengths", body=tag("p", f"At most {longest} letters."))]

    def css(self):
        return "mark{background:var(--accent-soft);color:var(--ink)}"


WORDS = Modality(name="words", payload=pa.schema([("text", pa.string())]), view=Words)


def texts(rows, rng):
    return {"text": [f"{HOSTILE[0]} the text number {x} & more" for x in rng.integers(0, 99, rows)]}
