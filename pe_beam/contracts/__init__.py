"""Contracts of the parts, one contract per file. The author of a part imports only this package.

Parts are found through entry points: `pe_beam.generators`, `pe_beam.embedders`, `pe_beam.modalities`,
`pe_beam.sources`, `pe_beam.stream_sources`, `pe_beam.stores`, `pe_beam.custody`, `pe_beam.search_engines` and
`pe_beam.runners`.
`pe_beam.testing` contains test suites for generators, embedders, views, stores and custodies, which our parts and those
of third parties must pass.

May import: errors, numbers; NumPy, Arrow, pydantic, MarkupSafe. No Beam.
"""

from pe_beam.contracts.asking import Asker, Seen
from pe_beam.contracts.content import Content, FieldContent, Preparation
from pe_beam.contracts.custody import Custody
from pe_beam.contracts.embedder import Embedder, Embedding
from pe_beam.contracts.generator import Chunk, Generator, Marginals, PaidGenerator, Step
from pe_beam.contracts.metric import Comparison, Measured, Metric, Series
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.contracts.store import Folder, Store
from pe_beam.contracts.stream import Cut, Span, StreamRequest, StreamSource
from pe_beam.contracts.view import History, Section, View

__all__ = [
    "NEWER",
    "Asker",
    "Chunk",
    "Comparison",
    "Content",
    "Custody",
    "Cut",
    "Embedder",
    "Embedding",
    "Endpoint",
    "Fault",
    "FieldContent",
    "FileCut",
    "FilePart",
    "Folder",
    "Generator",
    "History",
    "Marginals",
    "Measured",
    "Metric",
    "Modality",
    "Options",
    "PaidGenerator",
    "Piece",
    "Preparation",
    "Section",
    "Seen",
    "Series",
    "Service",
    "Source",
    "SourceBatch",
    "SourceRequest",
    "Span",
    "Step",
    "Store",
    "StreamRequest",
    "StreamSource",
    "Surroundings",
    "View",
]
