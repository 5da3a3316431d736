"""How alike two clouds of vectors are: distances, manifolds, nearest neighbours, classifiers. Maths on arrays; no Beam.

`evaluation` measures runs by it in the space of their embedder, and modalities in spaces of their own. NumPy, faiss,
SciPy and scikit-learn.

May import: voting, subsamples, keyed.
"""
