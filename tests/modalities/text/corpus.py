"""Real texts that a package ships: snippets of four kinds out of the source package of vaderSentiment 0.5 (MIT).

Hutto and Gilbert, ICWSM 2014: sentences of Amazon reviews, of film reviews and of New York Times editorials, and
tweets. One part is declared public, and a language model learns from it; another is private; a third is held out.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

KINDS = {
    "product review": "amazonReviewSnippets",
    "film review": "movieReviewSnippets",
    "editorial": "nytEditorialSnippets",
    "tweet": "tweets",
}
_INSIDE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_PUBLIC, _PRIVATE = 0.5, 0.4  # shares; the rest is held out


def archive() -> Path:
    """The texts' archive, fetched once an environment through pip."""
    kept = Path(sys.prefix) / "share" / "pe_beam" / "hutto_ICWSM_2014.tar.gz"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*command, "--dest", folder, "vaderSentiment==0.5"], check=True, timeout=300)
            with zipfile.ZipFile(Path(folder) / "vaderSentiment-0.5.zip") as package:
                data = package.read(_INSIDE)
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}")
        draft.write_bytes(data)
        draft.replace(kept)
    return kept


def load() -> dict[str, list[str]]:
    """Kind -> its texts of 4 words or more, in an order that is mixed but always the same."""
    texts = {}
    with tarfile.open(archive()) as tar:
        for kind, name in KINDS.items():
            file = tar.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            assert file is not None
            lines = file.read().decode("utf-8", "replace").splitlines()
            found = dict.fromkeys(line.split("\t", 2)[2].strip() for line in lines if line.count("\t") >= 2)
            own = [text for text in found if len(text.split()) >= 4]
            order = np.random.default_rng(0).permutation(len(own))
            texts[kind] = [own[i] for i in order]
    return texts


def parts(texts: dict[str, list[str]]) -> dict[str, list[tuple[str, str]]]:
    """public, private and held out: (kind, text) of each."""
    found: dict[str, list[tuple[str, str]]] = {"public": [], "private": [], "held out": []}
    for kind, own in texts.items():
        a, b = round(len(own) * _PUBLIC), round(len(own) * (_PUBLIC + _PRIVATE))
        for part, chosen in (("public", own[:a]), ("private", own[a:b]), ("held out", own[b:])):
            found[part] += [(kind, text) for text in chosen]
    return found


def as_csv(rows: list[tuple[str, str]]) -> str:
    """Columns kind and text."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(["kind", "text"])
    writer.writerows(rows)
    return sink.getvalue()
