"""Generator `diffusers`: any pipeline or diffusion model that the library `diffusers` loads.

`options` has the options of a recipe. `looking` checks them and a model's files, without weights, and `known` what a
model without text says of itself. `loading` loads a model once per process. `prompted` and `unprompted` draw with
it. `batches` keeps shapes fixed. `generator` is the part that a recipe names. torch and diffusers are imported only if
a recipe uses them.
"""
