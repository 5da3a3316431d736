"""Runs a recipe to its end: the loop, and what happens before, during and after it.

`parts` checks a recipe. `loop` runs one Beam job per iteration, `jobs` has their graphs. `resume` checks that a run may
resume. `budget` writes a ledger line before the budget is spent. `booking` enters a budget book before that, and
`returning` gives back what is not spent. `finalize` completes a release and deletes the secret, `purge` what is
private. `status`, `progress`, `reporting` and `export` show a run and its results. `public` decides which parts of a
recipe are released. `preview` makes a handful of candidates before a run; `plan_page` shows a plan.

May import: engine, runners, books, transforms, recipe, releases, sharing, report, privacy, voting, storage, custody,
services, contracts, registry, keyed, names, numbers, wording, errors.
"""
