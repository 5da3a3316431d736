"""Metrics of `evaluate` for pictures, beyond the recipe's own embedding. All of them are private (DESIGN, rule 9)."""
