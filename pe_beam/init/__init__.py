"""`pe-beam init`: questions, what may be looked at, and the recipe that comes of the answers. No Beam but for listings.

May import: driver, recipe, sources, contracts, registry, names, errors.
"""
