# make demo   the main job on the embedded model (sets everything up on a fresh machine)
# make test   all tests but the slow ones (the same)
# make gallery   the pictures of docs/gallery.md, done again (Chromium, two minutes)
# make test-kernels   the numeric tests on the kernels of other processors, a minute each
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Two processes share the cores: one thread each, and no spinning while a neighbour works.
QUIET := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false

.PHONY: demo test test-slow test-kernels check format docs gallery clean

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv, once: about two minutes, most of them for torch."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/babelpress demo --out demo-run

test: $(READY)
	$(QUIET) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" -q

test-slow: $(READY)
	$(QUIET) $(BIN)/python -m pytest -m slow -q

test-kernels: $(READY)
	$(QUIET) $(BIN)/python -m pytest -q --durations=0 tests/test_kernels.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python docs/reference.py --check
	$(QUIET) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" -q

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python docs/reference.py

gallery: $(READY)
	$(QUIET) $(BIN)/python benchmarks/gallery.py --out gallery-run

clean:
	rm -rf .venv demo-run gallery-run
