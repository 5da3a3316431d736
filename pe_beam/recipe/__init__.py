"""The recipe: its typed models, how it is read and checked, its identity, its plan and its costs.

`models` has the sections, `loading` reads and resolves them, `identity` gives the ids that follow, `parts` and
`sources` find what a recipe names, `plan` fixes the noise, `costs` and `sizes` estimate, `explain` turns a validation
error into one line, `reference` writes docs/recipe.md and the published schema. No Beam.

May import: contracts, privacy, selection, registry, shipped, keyed, names, numbers, errors.
"""
