"""The steps of one run, bound to its directory.

`run` is a run as a driver or a worker sees it. `populations`, `matrices`, `counting` and `steps` have the steps of an
iteration as plain functions; `choose` and `bought` say what they decide. `ingest`, `apart` and `selfcheck` turn private
records into frozen shards. `tables` has the bytes of files. `handles` binds the public transforms to a run, and
`graphs/` carries all of it; nothing else here knows Beam.

May import: contracts, recipe, transforms, privacy, voting, selection, storage, keyed, errors.
"""
