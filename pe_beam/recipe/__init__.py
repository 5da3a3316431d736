"""The recipe: its typed models, how it is read and checked, its identity, its plan and its costs.

`models` has the whole, and `sections` a module for each section. `loading` reads and resolves them, and `files` reads
the files that they name. `identity` computes the ids of a recipe. `parts` and `sources` find the parts that a recipe
names. `around` is the base of sources that change what another one yields. `start` finds the release that a run starts
from, and `ancestry` adds up what that has spent. `plan` fixes the noise, within the `bounds` of what a record adds, and
has a `warning`. `outlook` says what is expected of it: errors of marginals (`accuracy`), a better split (`advice`), and
what iterations and candidates cost (`trade`). `costs` and `sizes` estimate. `explain` turns a validation error into one
line per key. `reference` writes docs/recipe.md and the published schema. No module uses Beam.

May import: contracts, storage, releases, privacy, selection, measuring, registry, shipped, keyed, names, numbers,
errors.
"""
