"""`pe-beam init`: questions, what may be looked at, and the recipe that comes of the answers. No Beam but for listings.

May import modalities, sources and runs; only the command line imports it, and a modality its `asking`.
"""
