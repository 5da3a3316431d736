"""One folder per modality, with its generators, embedders and codecs. No Beam.

Modalities are found through entry points. No lower package imports one.

May import: contracts, services, sources, report, selection, measuring, metrics, registry, subsamples, keyed, kept,
names, numbers, wording, errors.
"""
