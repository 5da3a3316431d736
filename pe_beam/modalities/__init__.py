"""A folder a modality: its generators, embedders and codecs. No Beam.

Found through entry points; nothing below imports one.

May import: contracts, services, sources, report, selection, metrics, registry, subsamples, keyed, names, numbers,
errors.
"""
