"""Where records come from: a scikit-learn data set by name, image folders, Parquet, CSV, JSONL, and the standard
files of pictures (CIFAR, MNIST, CelebA, Camelyon, WebDataset, TFRecord).

A source cuts its rows into pieces by sorted file and fixed row ranges, so
that the cut is a property of the data and never of bundles or machines; it then reads and digests one piece at a
time, in bounded memory. What a source raises names the recipe key, the kind of fault and what is allowed;
file, row and value of a faulty record are only in the batch that is handed to the caller.

May import: contracts, names, errors; Beam's file systems where a path is not local.
"""
