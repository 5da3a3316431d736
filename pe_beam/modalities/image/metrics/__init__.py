"""What `evaluate` measures of pictures beyond the recipe's own embedding. All of it is private (DESIGN, rule 9)."""
