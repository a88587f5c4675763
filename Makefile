# Everything that a newcomer, an engineer and CI run. Needs Python 3.11+ and the package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bootstrap image weights lock clean \
        bench bench-gpu bench-gpu-tiny bench-inference chaos chaos-short docs-alerts docs-check docs-config fleet-box fleet-conformance \
        fleet-soak fleet-soak-short gateway image-check mutants prefect-load scale scale-short secrets truth
.DELETE_ON_ERROR:

# --- every day -------------------------------------------------------------------------------------------------------

# Ctrl-C ends the demo itself; KEEP=1 leaves the stack and the Prefect UI up until then.
demo: $(VENV)/installed
	$(BIN)/vfleet demo $(if $(KEEP),--keep)

# Two processes, each with servers of its own: half of the time is waiting.
test: $(VENV)/complete
	$(BIN)/python -m pytest -m "not slow" -n 2

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# --- for real --------------------------------------------------------------------------------------------------------

# On the Prefect server of PREFECT_API_URL; VFLEET_HOME is where the project lies on the workers.
bootstrap: $(VENV)/installed
	$(BIN)/vfleet bootstrap --home $(or $(VFLEET_HOME),/app)

# Fetches the production weights once, on a machine that you trust, and writes their hashes to deploy/image/weights.lock.
weights: $(VENV)/installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.lock onnx huggingface-hub
	$(BIN)/python deploy/image/fetch_weights.py --write-lock $(if $(HF_TOKEN_FILE),--token-file $(HF_TOKEN_FILE)) \
	    .local/weights indicconformer-600m mms-lid-256 voxlingua107-ecapa

# The worker image, with Docker. HF_TOKEN is a secret of one step of the build.
image:
	docker build -f Dockerfile.validation -t $(or $(IMAGE),vfleet-worker) --secret id=hf_token,env=HF_TOKEN \
	    --build-arg REVISION=$$(git rev-parse HEAD) .

# --- proofs that take longer -----------------------------------------------------------------------------------------

mutants: $(VENV)/installed
	$(BIN)/python -m tests.support.ledger_mutants

# Kills, stops and starves everything for a minute and a half, lets the queue drain, then audits. CI runs it.
chaos-short: $(VENV)/installed
	$(BIN)/python -m simulation.chaos --minutes 1.5 --seed 7 --drain-within 120

chaos: $(VENV)/installed
	$(BIN)/python -m simulation.chaos --minutes $(or $(MINUTES),20) --seed $(or $(SEED),1)

# A day of a hundred machines against the fake market with every fault on, beside the script that everybody writes
# first. Five to twenty minutes of two cores; fails on a duplicate, an orphan or a broken cap. JSON under .local/soak.
fleet-soak: $(VENV)/installed
	$(BIN)/python -m simulation.market --machines $(or $(MACHINES),100) --hours $(or $(HOURS),24) --seed $(or $(SEED),1)

# Four hours of twenty machines, half a minute on an idle machine. CI runs it.
fleet-soak-short: $(VENV)/installed
	$(BIN)/python -m simulation.market --machines 20 --hours 4 --seed 7

# Machines of the fake run the real entrypoint, self-test and worker, on a real Prefect server and ledger.
fleet-box: $(VENV)/installed
	$(BIN)/python -m pytest -m slow tests/fleet

# Drives the fake market with the vendor's own command-line client; skipped with a message where it cannot be had.
fleet-conformance: $(VENV)/installed
	$(BIN)/python -m tests.vast.conformance .local/vastai

# The boxes' door, with a real worker that does a chunk behind it.
gateway: $(VENV)/installed
	$(BIN)/python -m pytest tests/gateway

# Builds the image for real with buildah on a base made here, looks into it and drives a chunk through it. Needs root,
# buildah and mmdebstrap; says so and ends well where they are not.
image-check: $(VENV)/complete
	$(BIN)/python -m tests.image.built_image .local/image

# Plants secrets in a box's environment and looks for them wherever anything is written.
secrets: $(VENV)/complete
	$(BIN)/python -m pytest -m slow tests/privilege

# Runs every command of docs/deploy.md and docs/operate.md, in order, against the embedded stack and fakes.
docs-check: $(VENV)/installed
	$(BIN)/python -m tests.support.docs_walk .local/docs

# Writes docs/configuration.md from the settings. A test fails while the page is out of date.
docs-alerts: $(VENV)/installed
	$(BIN)/python -m validation.analysis.status.alert_files

docs-config: $(VENV)/installed
	$(BIN)/python -m validation.configuration > docs/configuration.md

# --- measurements ----------------------------------------------------------------------------------------------------

# The plain way against ours on tiny models of the production architectures: ratios, parity first. Under three minutes.
bench: $(VENV)/complete
	$(BIN)/python bench/throughput.py

# Cost of the inference server over the same suite in the own process.
bench-inference: $(VENV)/installed
	$(BIN)/python bench/inference_overhead.py

# On a machine with a GPU: full-size models, random weights; under ten minutes. Needs torch and transformers only.
bench-gpu:
	$(PYTHON) bench/gpu.py

# Every step of bench/gpu.py without a GPU; two minutes.
bench-gpu-tiny: $(VENV)/complete
	$(BIN)/python -m pytest tests/bench -m slow

# Faults injected into trusted clips: which signal finds which.
truth: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/calibration.py

# The ledger at full scale, to the end of the queue: 507,387 videos, 100 workers, a real Postgres.
scale: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/scale.py

# The same in under a minute: CI runs it.
scale-short: $(VENV)/installed
	$(BIN)/python bench/scale.py --rows 20000 --paced-s 5 --pace 10 --every 2 --out scale-short.json

# How many workers a Prefect server bears, on SQLite and on Postgres.
prefect-load: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/prefect_load.py

# --- the house -------------------------------------------------------------------------------------------------------

# uv takes 15 s where pip takes 2 min; both install exactly what constraints.lock pins. Compiled now, or every
# Prefect process would pay for it at its start.
$(VENV)/installed: pyproject.toml constraints.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.lock -e '.[local,test]'
	touch $@

# The production models' libraries, for tests, types and benchmarks. By pip, which takes torch's CPU build where it is
# told of one.
$(VENV)/complete: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.lock -e '.[models]'
	touch $@

# Pins are for all extras and platforms at once; no index address is written.
lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --no-annotate --no-header --no-emit-index-url -o constraints.lock

clean:
	rm -rf $(VENV) .local
