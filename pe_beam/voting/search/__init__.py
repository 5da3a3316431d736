"""Search engines, one per file. `contracts.search` has the contract and the proof of the bound.

May import: contracts, errors; NumPy and what an engine is built on.
"""
