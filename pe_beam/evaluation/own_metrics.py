"""What `evaluate` measures besides embeddings: the metrics of a kind of record, and those of third parties for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint

from pe_beam import registry
from pe_beam.contracts.metric import Comparison, Measured, Metric
from pe_beam.contracts.modality import Modality
from pe_beam.errors import InputError, MissingExtraError


def metrics_of(modality: Modality) -> list[Metric]:
    """Returns the modality's own metrics, then installed ones for it (entry points `pe_beam.metrics`), by name.

    A metric that cannot be imported is one that says so: it is left out with a note.
    """
    found = [_loaded(point) for point in sorted(registry.points("metrics"))]
    return [*modality.metrics, *(metric for metric in found if registry.fits(metric, modality.name))]


def options_of(modality: Modality) -> dict[str, str]:
    """Returns name -> description of the options of all metrics.

    Raises:
      InputError: two metrics have an option of one name.
    """
    found = dict(modality.metric_options)
    for metric in metrics_of(modality)[len(modality.metrics) :]:
        for name, text in _own_options(metric).items():
            if name in found:
                raise InputError(
                    f"--set {name}: several installed metrics have an option of that name; keep one of them"
                )
            found[name] = text
    return found


def _own_options(metric: Metric) -> Mapping[str, str]:
    return getattr(metric, "options", {})


def _loaded(point: EntryPoint) -> Metric:
    try:
        metric: Metric = registry.load(point, f"metric {point.name!r}:")
    except InputError as error:
        missing = str(error)

        def say(comparison: Comparison) -> Measured:
            raise MissingExtraError(missing)

        return say
    return metric
