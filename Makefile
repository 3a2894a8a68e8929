# Two commands on a fresh machine: `make demo` and `make test`. PYTHON=python3.12 make demo selects
# the interpreter. VENV names the environment's folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo

.PHONY: demo test setup lint types schema docs notebooks recovery fuzz benchmarks clean

setup: $(STAMP)

$(STAMP): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "neuropipe needs Python 3.11 or newer: PYTHON=python3.11 make ..."; exit 2; }
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && \
	  [ -z "$$PIP_EXTRA_INDEX_URL$$PIP_FIND_LINKS$$PIP_INDEX_URL" ]; then \
	  echo "No NVIDIA driver here: to spare several GB, add PyTorch's CPU wheel index first"; \
	  echo "(PIP_EXTRA_INDEX_URL, see README.md)."; fi
	@echo "Setting up $(VENV) (about 2 GB, some minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet -r envs/requirements.lock
	@$(BIN)/pip install --quiet --no-deps -e .
	@touch $(STAMP)

demo: $(STAMP)
	@test -e $(DEMO)/config/config.yaml || $(BIN)/neuropipe init $(DEMO) --demo
	@$(BIN)/neuropipe run --directory $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto

recovery: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m recovery -s

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -m fuzz

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow

types: $(STAMP)
	$(BIN)/mypy

schema: $(STAMP)
	$(BIN)/python -m neuropipe.config.schema config/schema

docs: $(STAMP)
	$(BIN)/python -m sphinx -q -W -b html docs build/site
	@echo build/site/index.html

notebooks: $(STAMP)
	cd notebooks && for script in *.py; do echo $$script; \
	  MPLBACKEND=Agg $(abspath $(BIN))/python $$script > /dev/null || exit 1; done

# ONLY="ntf trsa-speed" runs sections or single claims, ONLY="--up-to 60" the cheap ones.
benchmarks: $(STAMP)
	$(BIN)/python benchmarks/page.py $(ONLY)

clean:
	rm -rf $(DEMO) build dist artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
