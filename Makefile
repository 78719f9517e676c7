PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SIM     := .venv-sim
OLDEST  := .venv-oldest
# One environment for each list of tests/integrations/: the pins of these programs do not go together.
OTHERS  := $(patsubst tests/integrations/%.txt,.venv-integrations/%,$(wildcard tests/integrations/*.txt))
# What test-oldest runs.
CORE    := cached checks distance export frozen functional heads loss* metric modes networks normalization tiling weights winds
# One torch thread per worker: two workers with two threads each would fight over two cores.
PYTEST   = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-sim test-integrations test-oldest lint docs notebooks format bench bench-check build clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("atmoloss needs Python >= 3.11: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev,docs]'
	@touch $@

demo: $(STAMP)  ## distances and a training on the bundled sample of real winds
	$(BIN)/python examples/demo.py

test: lint docs  ## lint, the site, then all tests but the slow ones
	$(PYTEST)

test-all: lint docs  ## lint, the site, then all tests
	$(PYTEST) -m '' --timeout 7200

$(SIM)/.installed: examples/simulation/requirements.txt
	$(PYTHON) -m venv $(SIM)
	$(SIM)/bin/python -m pip install -q --disable-pip-version-check -r examples/simulation/requirements.txt
	@touch $@

# JAX stays out of .venv, torch out of .venv-sim; one test lets the Python of .venv read what .venv-sim wrote.
test-sim: $(STAMP) $(SIM)/.installed  ## the simulation of examples/simulation, in its own environment (JAX)
	ATMOLOSS_PYTHON=$(CURDIR)/$(BIN)/python $(SIM)/bin/python -m pytest -q --timeout 7200 examples/simulation

.venv-integrations/%/.installed: tests/integrations/%.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check -e '.[data]' -r $< pytest pytest-timeout hypothesis
	@touch $@

test-integrations: $(OTHERS:%=%/.installed)  ## the loss inside other programs, in environments of their own; gigabytes
	for env in $(OTHERS); do OMP_NUM_THREADS=1 $$env/bin/python -m pytest -q -rs -m integration tests/integrations \
	tests/examples/test_frameworks.py tests/test_lightning.py || exit 1; done

$(OLDEST)/.installed: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python tests/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install -q --disable-pip-version-check -c $(OLDEST)/constraints.txt \
	-e '.[data,eval,metrics,export]' pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

test-oldest: BIN := $(OLDEST)/bin
test-oldest: $(OLDEST)/.installed  ## the core of the suite with the lower bounds of pyproject.toml; before a release
	$(PYTEST) $(wildcard $(CORE:%=tests/test_%.py))

lint: $(STAMP)  ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## the site, into build/docs; a warning, such as a link that leads nowhere, is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs

notebooks: $(STAMP)  ## execute docs/tutorials and keep their outputs; minutes of a core
	$(BIN)/python docs/tutorials/execute.py

format: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## time the loss against its rivals on a quiet machine; results/ are written anew
	for b in loss stages variants sign_bits generator_step matrix memory max_memory startup; do $(BIN)/python benchmarks/speed/$$b.py || exit 1; done

bench-check: $(STAMP)  ## fail where the loss lost more than 15 % against the naive port since the committed results
	$(BIN)/python benchmarks/speed/loss.py --check

build: $(STAMP)  ## sdist, and the wheel from it, into dist/
	$(BIN)/python -m build --no-isolation

clean:  ## remove .venv and whatever else these targets make
	rm -rf $(VENV) $(SIM) $(OLDEST) .venv-integrations dist build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
