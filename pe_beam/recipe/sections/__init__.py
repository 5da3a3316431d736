"""The sections of a recipe, one a module: typed models that refuse unknown keys.

May import: what `pe_beam.recipe` may.
"""
