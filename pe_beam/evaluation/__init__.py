"""Quality of samples against real records: maths on arrays, and the steps that read, measure and tell.

Everything here is computed from real records without noise: it is written to `private/evaluation/` alone, and no
command filters, ranks or stops by it (DESIGN, privacy rule 9). NumPy, faiss, SciPy and scikit-learn; no Beam, which
`graph` brings. docs/evaluation.md says what each figure means.

May import: driver, engine, report, recipe, voting, storage, contracts, subsamples, keyed, errors.
"""
