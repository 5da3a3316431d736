"""The steps of one run, bound to its directory.

`run` is a run as a driver or a worker sees it, `steps` has the steps of an iteration as plain functions, `choose` and
`bought` what they decide, `ingest`, `apart` and `selfcheck` how private records become frozen shards, `tables` the
bytes of files. `handles` binds the public transforms to a run, and `graphs/` carries all of it; nothing else here knows
Beam.

May import: contracts, recipe, transforms, privacy, voting, selection, storage, keyed, errors.
"""
