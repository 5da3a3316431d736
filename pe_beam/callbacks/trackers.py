"""Hands what is released after an iteration to TensorBoard, MLflow or Weights & Biases.

All of them note times, which a release has not (privacy rule 7): what they hold is the holder's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pe_beam.callbacks.figures import figures, rows, sheet
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.releases.reading import Release

Callback = Callable[[Release], None]


def tensorboard(log_dir: str | Path) -> Callback:
    """Returns a callback that writes scalars and the first candidates for TensorBoard, with torch's writer.

    Args:
      log_dir: a folder for its event files. They say when each iteration was done, and so how long private stages took:
        unlike the release they are the holder's.

    Raises:
      MissingExtraError: the package tensorboard or torch is not installed.
    """
    writers = _library("torch.utils.tensorboard", "tensorboard", "tensorboard and torch")

    def call(release: Release) -> None:
        step, mark = release.iteration, _mark(release)
        with writers.SummaryWriter(str(log_dir)) as writer:
            for name, value in figures(release).items():
                writer.add_scalar(mark + name, value, step)
            picture = sheet(release)
            if picture is not None:
                import numpy as np

                writer.add_image(f"{mark}population", np.asarray(picture), step, dataformats="HWC")
            else:
                writer.add_text(f"{mark}population", "\n\n".join(rows(release)), step)

    return call


def mlflow(*, send_unprotected: bool = False) -> Callback:
    """Returns a callback that logs metrics, and pictures as artifacts, to the active run of MLflow.

    The tracking server is a recipient of what is released, and of when: how long private stages take follows from that.

    Args:
      send_unprotected: lets it have what a run at epsilon = infinity makes, which nothing protects.

    Raises:
      MissingExtraError: the package mlflow is not installed.
    """
    library = _library("mlflow", "mlflow", "mlflow")

    def call(release: Release) -> None:
        _demand_protected(release, "mlflow", send_unprotected=send_unprotected)
        step, mark = release.iteration, _mark(release)
        library.log_metrics({mark + name: value for name, value in figures(release).items()}, step=step)
        picture = sheet(release)
        if picture is not None:
            library.log_image(picture, artifact_file=f"{mark}population/{step:04d}.png")
        else:
            library.log_text("\n".join(rows(release)), artifact_file=f"{mark}population/{step:04d}.txt")

    return call


def wandb(*, send_unprotected: bool = False) -> Callback:
    """Returns a callback that logs to the active run of Weights & Biases (`wandb.init` comes first).

    The service is a recipient of what is released, and of when: how long private stages take follows from that.

    Args:
      send_unprotected: lets it have what a run at epsilon = infinity makes, which nothing protects.

    Raises:
      MissingExtraError: the package wandb is not installed.
    """
    library = _library("wandb", "wandb", "wandb")

    def call(release: Release) -> None:
        _demand_protected(release, "wandb", send_unprotected=send_unprotected)
        mark = _mark(release)
        logged: dict[str, Any] = {mark + name: value for name, value in figures(release).items()}
        picture = sheet(release)
        if picture is not None:
            logged[f"{mark}population"] = library.Image(picture)
        else:
            logged[f"{mark}population"] = library.Table(columns=["record"], data=[[row] for row in rows(release)])
        library.log(logged, step=release.iteration)

    return call


def _library(module: str, name: str, packages: str) -> Any:
    """Imports what a tracker needs, before anything is spent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"callbacks.{name}: needs the package {packages}, which is not installed; `pip install {name}`"
        ) from error


def _mark(release: Release) -> str:
    return "" if release.private else "NOT PRIVATE/"


def _demand_protected(release: Release, name: str, *, send_unprotected: bool) -> None:
    if not release.private and not send_unprotected:
        raise InputError(
            f"callbacks.{name}: this run is NOT PRIVATE (epsilon = inf) and its candidates would be sent away; where "
            "that is allowed, say send_unprotected=True"
        )
