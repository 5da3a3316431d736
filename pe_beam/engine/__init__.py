"""The steps of one run, bound to its directory.

`run` is a run for a driver or a worker: its directory, recipe, identity and parts. `layout` names its files,
`manifests` lists the existing iterations, `frozen` the private shards, and `spending` the budget of an iteration.
`populations`, `matrices`, `counting` and `steps` have the steps of an iteration as plain functions, and `indexes` its
approximate search. `choose` makes the selection; `balancing`, `settling` and `repeats` bring the last population to
what was measured. `start` takes the first population from an earlier release, `memory` votes from earlier windows.
`makers` tells several generators apart. `queries` has the queries of an iteration on private data, `measurements` the
initial measurement, `measuring` the steps of `privacy.measure`, `estimating` what all of these say together, and
`cells` the bins of records by which they are counted. `cuttable`, `records`, `ingest`, `shards`, `apart` and
`selfcheck` turn private records into frozen shards, which `ahead` reads. `tables` reads and writes the bytes of files.
`handles` binds the public transforms to a run. `graphs/` has the Beam graphs; no other module here uses Beam.

May import: contracts, recipe, releases, transforms, privacy, measuring, voting, selection, storage, custody, keyed,
kept, errors.
"""
