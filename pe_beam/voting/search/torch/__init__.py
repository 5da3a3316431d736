"""Engine `torch`: half-precision products on matrix units, with a proven bound for each pair.

docs/performance.md, "The bound of half precision", has the derivation. Its letters are the names that are used here.
Modules: `precision` (number formats), `halves` (rounding), `groups` (both sides of a product), `probe` (refuses a
device whose sums are worse than assumed), `scan` and `kernel` (pairs that may win), `refine` (float64 on the device),
`devices`, and `proposer`, which is the engine.
"""
