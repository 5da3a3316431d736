"""What runs a recipe to its end: the loop, and what comes before, beside and after it.

`loop` runs one Beam job an iteration, `resume` finds again what is there, `budget` writes a ledger line before it is
spent, `finalize` completes a release and forgets the secret, `status`, `progress`, `reporting` and `export` tell
of it, `public` says what of a recipe is released.

May import: engine, runners, recipe, report, privacy, voting, storage, services, contracts, registry, names, numbers,
errors.
"""
