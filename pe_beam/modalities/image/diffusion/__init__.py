"""Generator `diffusers`: any pipeline or diffusion model that the library `diffusers` loads.

`options` has the options of a recipe. `loading` loads a model once per process. `prompted` and `unprompted` draw with
it. `batches` keeps shapes fixed. `generator` is the part that a recipe names. torch and diffusers are imported only if
a recipe uses them.
"""
