"""Decides from noisy counts of columns what to count next: groups of bins, and pairs of columns that go together.

All of it is post-processing of released counts and declared facts: it costs no budget. No true count is seen here, but
in `cells`, which counts and decides nothing. `shares` turns counts into shares, `cliques` has what a query counts,
`groups` cuts bins into groups of equal mass, and `pairs` scores and chooses pairs, `interactions` sets of columns that
say something only all together. `estimates` takes noise out of one-way counts, and `slices` says where in a bin
records lie.

May import: errors; NumPy. No Beam.
"""
