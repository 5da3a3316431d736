"""Votes: which candidate is nearest to a private record, exactly, and how often.

- `nearest`    the exact search (DESIGN, privacy rule 8): `flat_search`, `reference_nearest`, `normalise_rows`
- `search/`    the fast engines, which propose candidates with a proven bound on their error
- `decide`     float64, then `math.fsum`, on what was proposed
- `votes`      `CandidateMatrix`, `Voter`, and an Arrow batch as arrays
- `records`    what embeds a batch of records, and which of them abstain
- `client`     a client's votes as integers of bounded norm (privacy rule 1)

May import: contracts, errors, registry; NumPy, pyarrow, faiss. No Beam, no torch.
"""
