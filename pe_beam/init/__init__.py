"""`pe-beam init`: asks questions, looks at permitted names, and writes a recipe. Only file listings use Beam.

May import: driver, recipe, sources, contracts, registry, names, errors.
"""
