# Two commands: `make run` (digits in, private samples out) and `make test` (everything that is checked; with Java and
# Maven also Flink; with Go and Node also object stores, whose servers it builds once: PE_BEAM_SERVER_MINUTES=0 leaves that
# out). `make docs` builds the documentation site. `make lowest` runs the tests with each requirement at its lower bound, in
# build/lowest (TESTS=tests/storage: some of them). `make flink` starts a Flink cluster on this machine, `make flink-stop`
# stops it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# Where it is set, each of some hundred processes compiles what it imports anew: seconds for each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test docs lowest flink flink-stop clean

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.run: setup.py $(VENV)/bin/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e .
	touch $@

$(VENV)/.test: setup.py $(VENV)/bin/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[dev]"
	touch $@ $(VENV)/.run

$(VENV)/.docs: setup.py $(VENV)/bin/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[docs]"
	touch $@ $(VENV)/.run

run: $(VENV)/.run
	$(BIN)/pe-beam run templates/recipes/digits.yaml --run-dir runs/digits

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.storage.servers
	$(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "build/site/index.html"

build/lowest/.test: setup.py $(VENV)/bin/uv
	mkdir -p build
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --all-extras setup.py --output-file build/lowest.txt
	$(PYTHON) -m venv --clear build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --requirement build/lowest.txt --editable . uv
	touch $@

lowest: build/lowest/.test
	build/lowest/bin/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder $(TESTS)

flink: $(VENV)/.run
	$(BIN)/python -m pe_beam.runners.flink start

flink-stop: $(VENV)/.run
	$(BIN)/python -m pe_beam.runners.flink stop

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
