# Two commands do everything: `make fit` and `make test`. Each sets up .venv first where that is still to be done.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= auto
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: help fit test slow coverage docs lint bolts gpu clean

help:
	@echo "make fit       train the GAN on embedded digits and show where the pictures and numbers are"
	@echo "make test      run the test suite, on all cores (WORKERS=1: on one)"
	@echo "make slow      run the long tests as well"
	@echo "make coverage  run the test suite and say which lines it never ran"
	@echo "make docs      build the documentation into docs/_build"
	@echo "make lint      check the style and the types of the code"
	@echo "make bolts     add lightning-bolts, for --model.network bolts_resnet18 (make test does it too)"
	@echo "make gpu       check and measure everything on a GPU, in 8 minutes, into build/gpu (docs/gpu.md)"
	@echo "make clean     remove .venv and what was built"

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed: make PYTHON=python3.12'"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	@touch $@

# Without what it requires: Lightning below 2, and torchvision. The zoo's bridge needs neither (docs/bolts.md).
.venv/bolts: .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps lightning-bolts==0.7.0
	@touch $@

bolts: .venv/bolts

fit: .venv/installed
	$(BIN)/python -m zoo.fit --model gan

# A worker a core, and a thread a worker: models this small gain nothing from a second thread.
test slow coverage docs: export OMP_NUM_THREADS := 1

test: lint bolts
	$(PYTEST)

slow: bolts
	$(PYTEST) -m "slow or not slow"

coverage: bolts
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html
	@echo "build/coverage/index.html"

gpu: .venv/installed
	$(BIN)/python -m benchmarks.gpu --minutes 8 --out build/gpu --continue

docs: .venv/installed
	$(PYTEST) --quiet tests/test_docs.py
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info docs/_build
