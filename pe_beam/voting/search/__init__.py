"""Search engines, one per file. `contracts.search` has the contract and the proof of the bound.

May import: contracts, errors, registry; NumPy and what an engine is built on.
"""
