"""The steps of one run, bound to its directory.

`run` is a run as a driver or a worker sees it: its directory, its recipe, its identity and its parts. `layout` names
its files; `manifests` says which iterations exist, `frozen` which private shards, `spending` what an iteration may
spend. `populations`, `matrices`, `counting` and `steps` have the steps of an iteration as plain functions; `choose`
decides what is selected; `queries` has what an iteration asks of private data, `measurements` what is measured before
the first vote. `ingest`, `apart` and `selfcheck` turn
private records into frozen shards. `tables` has the bytes of files. `handles` binds the public transforms to a run, and
`graphs/` carries all of it; nothing else here knows Beam.

May import: contracts, recipe, transforms, privacy, voting, selection, storage, keyed, errors.
"""
