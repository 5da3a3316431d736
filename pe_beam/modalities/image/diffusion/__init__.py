"""Generator `diffusers`: any pipeline or diffusion model that the library of that name loads.

`options` is what a recipe may say, `loading` makes a model of it once a process, `prompted` and `unprompted` draw with
it, `batches` keeps to fixed shapes, and `generator` is the part that a recipe names. torch and diffusers load when a
recipe asks for them.
"""
