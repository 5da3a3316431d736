"""A folder a modality: its generators, embedders and codecs. No Beam."""
