"""Nearest candidates and votes. NumPy, PyArrow and faiss only; no Beam."""
