"""Accounting, noise, ledger, secret, statement. NumPy, SciPy, mpmath and dp-accounting only; no Beam."""
