# The command line, built from the root of a checkout and run as a user without rights:
#   docker build -t pe-beam --build-arg EXTRAS=table .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" pe-beam run digits --run-dir /work/runs/digits
# What lies on the machine comes in by a volume alone: .dockerignore keeps runs and data out of the image.
ARG PYTHON=3.11-slim-bookworm
FROM python:${PYTHON} AS build
WORKDIR /src
COPY setup.py pyproject.toml MANIFEST.in README.md CHANGELOG.md CITATION.cff LICENSE ./
COPY pe_beam ./pe_beam
COPY pipelines ./pipelines
COPY templates ./templates
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}
# What the recipes need besides: image, text, table, s3, gcp, ... between commas.
ARG EXTRAS=table
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]" && pip check
# Any user may write here, so that --user works: a run directory belongs to who starts the run.
RUN useradd --create-home --uid 10001 holder && install -d -m 1777 /work /cache
ENV HOME=/cache PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
USER 10001
ENTRYPOINT ["pe-beam"]
CMD ["--help"]
