"""What people who work in Python call: a run as an object, and a run on records that they hold in memory.

`runs` evolves a recipe and reads the run's results. `synthesize` lands records of a frame, a table, texts or pictures
as a Parquet file of the run, and evolves a recipe on it. `landing` turns what is given into that file. `declaring`
turns declarations of other libraries into `data.schema`.

May import: releases, driver, evaluation, engine, recipe, privacy, storage, contracts, registry, names, errors.
"""
