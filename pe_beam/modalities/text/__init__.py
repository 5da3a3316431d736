"""Texts: generator `llm` over remote and local language models, embedders, cleaning, metrics. No Beam.

openai, transformers, sentence-transformers and torch come with the extra `text` and load when a recipe asks for them.
"""

from __future__ import annotations

import pyarrow as pa

from pe_beam.modalities.base import Modality

MODALITY = Modality(name="text", payload=pa.schema([("text", pa.string())]))
