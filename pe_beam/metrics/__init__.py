"""Measures how similar two sets of vectors are: distances, manifolds, nearest neighbours, classifiers. No Beam.

`evaluation` measures runs with it in the space of their embedder. Modalities use it in spaces of their own. It uses
NumPy, faiss, SciPy and scikit-learn.

May import: voting, subsamples, keyed.
"""
