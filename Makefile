# Everything that a newcomer, an engineer and CI run. Needs Python 3.11+ and the package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint mutants deploy chaos chaos-short fleet-conformance lock clean
.DELETE_ON_ERROR:

# Ctrl-C ends the demo itself; KEEP=1 leaves the stack and the Prefect UI up until then.
demo: $(VENV)/installed
	$(BIN)/vfleet demo $(if $(KEEP),--keep)

# Two processes, each with servers of its own: half of the time is waiting.
test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" -n 2

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(VENV)/installed
	$(BIN)/python tests/ledger_mutants.py

# On the Prefect server of PREFECT_API_URL; VFLEET_HOME is where the project lies on the workers.
deploy: $(VENV)/installed
	$(BIN)/vfleet deploy --home $(or $(VFLEET_HOME),/app)

# Kills, stops and starves everything for a minute and a half, lets the queue drain, then audits. CI runs it.
chaos-short: $(VENV)/installed
	$(BIN)/vfleet chaos --minutes 1.5 --seed 7

chaos: $(VENV)/installed
	$(BIN)/vfleet chaos --minutes $(or $(MINUTES),20) --seed $(or $(SEED),1)

# Drives the fake market with the vendor's own command-line client; skipped with a message where it cannot be had.
fleet-conformance: $(VENV)/installed
	$(BIN)/python tests/fleet/conformance.py .local/vastai

# uv takes 15 s where pip takes 2 min; both install exactly what constraints.lock pins. Compiled now, or every
# Prefect process would pay for it at its start. Torch comes by pip, which takes the CPU build where it is told of one.
$(VENV)/installed: pyproject.toml constraints.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.lock -e '.[local,test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.lock -e '.[models]'
	touch $@

# Pins are for all extras and platforms at once; no index address is written.
lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --no-annotate --no-header --no-emit-index-url -o constraints.lock

clean:
	rm -rf $(VENV) .local
