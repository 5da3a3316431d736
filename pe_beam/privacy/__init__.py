"""Everything that the privacy guarantee depends on, as plain functions that a reviewer can read by themselves.

`accounting` (budget -> sigma, and back), `loss` (the second accounting method), `noise` (the keyed stream and the
one place where noise is added), `rounded` (the exact sampler), `precise`, `ledger`, `secret`, `statement`.

May import: contracts, errors, keyed; NumPy, SciPy, mpmath, dp-accounting. No Beam, no pandas.
mpmath and dp-accounting take from 0.3 to 3 seconds to import, so functions that need them do it themselves.
"""
