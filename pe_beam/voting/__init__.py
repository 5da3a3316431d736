"""Finds the candidates that are nearest to private records, and counts their votes.

- `nearest`    the exact search (DESIGN, privacy rule 8): `flat_search`, `reference_nearest`, `normalise_rows`
- `search/`    the fast engines, which propose candidates with a proven bound on their error
- `decide`     the exact decision among proposed candidates: float64, then `math.fsum`
- `hnsw`       approximate search among a label's candidates, a function of record and graph alone (privacy rule 10)
- `approximate`  the file of such graphs, their recall on candidates, and the voter that asks them
- `votes`      `CandidateMatrix`, `Voter`, and the conversion of an Arrow batch to arrays
- `gather`     gathers records by label over batches
- `threads`    searches blocks of queries side by side
- `records`    embeds a batch of records, and decides which of them abstain
- `client`     scales a client's votes to integers of bounded norm (privacy rule 1)

May import: contracts, errors, names, registry; NumPy, pyarrow, threadpoolctl; engines: faiss, torch. No Beam.
"""
