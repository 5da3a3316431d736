"""Reads releases: what a run has published, finished or not, for people who need not hold the private data.

`reading` opens a release and checks each file against its manifest. `privacy` is the type of `privacy.json`. `notebook`
draws a release as HTML, for notebooks. No module uses Beam, a recipe's parts or a private file.

May import: contracts, storage, names, errors; Arrow, Pillow, markupsafe.
"""
