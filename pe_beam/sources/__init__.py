"""Sources of records: a scikit-learn data set by name, image folders, Parquet, CSV, JSONL, topics of Kafka, and the
standard files of pictures (CIFAR, MNIST, CelebA, Camelyon, WebDataset, TFRecord, DICOM). `stream_*` cut windows of a
stream.

A source cuts its rows into pieces by sorted file and fixed row ranges. So the cut is a property of the data and does
not depend on bundles or machines. A source reads and digests one piece at a time, in bounded memory. Its errors name
the recipe key, the kind of fault and what is allowed. The file, row and value of a faulty record are only in the batch
that the caller receives.

Files lie on a disk or in an object store (`files`). `scanning` cuts one large text file in parallel. `events` reads
all rows of a client as one record, `relational` those of two tables; `clients` gathers them by a shuffle, and
`gathering` says what they make together.

May import: contracts, storage, transforms, names, numbers, errors; Beam's file systems for globs and for other schemes,
and Beam where records come from a transform.
"""
