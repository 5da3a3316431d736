"""Filters on candidates: rules about their text or content, a function of the user's, and a model as judge.

They are found through entry points. They see synthetic candidates alone.

May import: contracts, modalities, numbers, errors.
"""
