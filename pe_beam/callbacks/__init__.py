"""Functions for `on_iteration`, which hand what is released after each iteration to the trackers of experiments.

`from pe_beam.callbacks import tensorboard`; then `pe_beam.evolve(recipe, run_dir, on_iteration=tensorboard("logs"))`.
They log the epsilon that is spent, the size of the population, the noisy votes, and the first candidates. All of it is
in the release. `figures` computes the numbers, `trackers` hands them over.

May import: releases, errors; Arrow, Pillow.
"""

from pe_beam.callbacks.figures import figures
from pe_beam.callbacks.trackers import mlflow, tensorboard, wandb

__all__ = ["figures", "mlflow", "tensorboard", "wandb"]
