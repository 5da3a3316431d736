"""Quality of samples against real records: the steps that read, measure and tell. `metrics` has the maths.

Everything here is computed from real records without noise: it is written to `private/evaluation/` alone, and no
command filters, ranks or stops by it (DESIGN, privacy rule 9). No Beam but in `graph`. docs/evaluation.md says what
each figure means.

May import: driver, engine, report, recipe, metrics, voting, storage, contracts, subsamples, keyed, errors.
"""
