"""The steps of one run, bound to its directory.

`run` is a run for a driver or a worker: its directory, recipe, identity and parts. `layout` names its files,
`manifests` lists the existing iterations, `frozen` the private shards, and `spending` the budget of an iteration.
`populations`, `matrices`, `counting` and `steps` have the steps of an iteration as plain functions. `choose` makes
the selection, and `start` takes the first population from an earlier release. `queries` has the queries of an
iteration on private data, `measurements` the initial measurement, `measuring` the steps of `privacy.measure`, and
`cells` the bins of records by which both are counted.
`cuttable`, `records`, `ingest`, `apart` and `selfcheck` turn private records into frozen shards. `tables` reads and
writes the bytes of files. `handles` binds the public transforms to a run. `graphs/` has the Beam graphs; no other
module here uses Beam.

May import: contracts, recipe, releases, transforms, privacy, measuring, voting, selection, storage, custody,
keyed, errors.
"""
