# The commands of development and CI. They need Python 3.11 or newer and the package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: attack demo test test-speech test-stack test-browser lint bootstrap image weights lock clean \
        bench bench-gpu bench-gpu-tiny bench-inference chaos chaos-short docs-alerts docs-check docs-config first-contact fleet-box fleet-conformance \
        fleet-soak fleet-soak-short fuzz gateway image-check mutants prefect-load scale scale-short secrets truth bench-calibration upstream-check
.DELETE_ON_ERROR:

# --- daily ----------------------------------------------------------------------------------------------------------

# KEEP=1 keeps the stack and the Prefect UI running until Ctrl-C.
demo: $(VENV)/installed
	$(BIN)/vfleet demo $(if $(KEEP),--keep)

# Two processes, each with its own servers, because a test waits for half of its time.
test: $(VENV)/complete
	$(BIN)/python -m pytest -m "not (slow or attack or stack or browser or speech)" -n 2 --dist loadfile --max-worker-restart 0

# The real models of the suite `local`, asked about real speech.
test-speech: $(VENV)/complete
	$(BIN)/python -m pytest -m "speech and not slow"

# Workers and servers as processes, their stops and kills, and the bootstrap of a Prefect server.
test-stack: $(VENV)/complete
	$(BIN)/python -m pytest -m "stack and not slow" -n 2 --max-worker-restart 0

# The pages of `vfleet report` and `vfleet explore` in Chromium.
test-browser: $(VENV)/complete
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# --- production ------------------------------------------------------------------------------------------------------

# On the Prefect server of PREFECT_API_URL. VFLEET_HOME is the folder of the project on the workers.
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

# --- longer checks ---------------------------------------------------------------------------------------------------

# Reads thousands of damaged tars and audio files. `make test` reads a tenth of them.
fuzz: $(VENV)/complete
	$(BIN)/python -m pytest -m slow tests/corpus/test_fuzz.py

# A short form of the demo as another account, in a folder with spaces, in another time zone, on a terminal without UTF-8.
first-contact: $(VENV)/installed
	.ci/first-contact

mutants: $(VENV)/installed
	$(BIN)/python -m tests.support.mutants_run

# Attacks: a stolen box login and key, hostile files, hostile text; slow tests included. Under three minutes.
attack: $(VENV)/complete
	$(BIN)/python -m pytest -m attack -n 2 --max-worker-restart 0

# Injects faults into a local fleet for a minute and a half, lets the queue drain, then audits. CI runs it.
chaos-short: $(VENV)/installed
	$(BIN)/python -m simulation.chaos --minutes 1.5 --seed 7 --drain-within 300

chaos: $(VENV)/installed
	$(BIN)/python -m simulation.chaos --minutes $(or $(MINUTES),20) --seed $(or $(SEED),1)

# Simulates a day of a hundred boxes in the fake market with all failures, and a simple renting script for comparison.
# Five to twenty minutes on two cores; fails on a duplicate, an orphan or a broken cap. JSON is in .local/soak.
fleet-soak: $(VENV)/installed
	$(BIN)/python -m simulation.market --machines $(or $(MACHINES),100) --hours $(or $(HOURS),24) --seed $(or $(SEED),1)

# Simulates four hours of twenty boxes, in half a minute on an idle machine. CI runs it.
fleet-soak-short: $(VENV)/installed
	$(BIN)/python -m simulation.market --machines 20 --hours 4 --seed 7

# Instances of the fake vendor run the real entrypoint, self-test and worker, on a real Prefect server and ledger.
fleet-box: $(VENV)/installed
	$(BIN)/python -m pytest -m slow tests/fleet

# Drives the fake market with the vendor's own command-line client; skipped with a message if it cannot be installed.
fleet-conformance: $(VENV)/installed
	$(BIN)/python -m tests.vast.conformance .local/vastai

# The gateway, with a real worker that validates a chunk through it.
gateway: $(VENV)/installed
	$(BIN)/python -m pytest tests/gateway

# Builds the image with buildah on a local base, inspects it and validates a chunk in it. Needs root, buildah and
# mmdebstrap; without them it says so and exits with 0.
image-check: $(VENV)/complete
	$(BIN)/python -m tests.image.built_image .local/image

# Puts known secrets into the environment of a box and searches everything that is written for them.
secrets: $(VENV)/complete
	$(BIN)/python -m pytest -m slow tests/privilege

# Runs every command of docs/deploy.md and docs/operate.md, in order, against the embedded stack and fakes.
docs-check: $(VENV)/installed
	$(BIN)/python -m tests.support.docs_walk .local/docs

# Writes the last section of docs/operate.md and deploy/grafana/alerts.yaml from sql/alerts.toml. A test fails while they are
# out of date.
docs-alerts: $(VENV)/installed
	$(BIN)/python -m validation.analysis.status.alerts

# Writes docs/configuration.md from the settings. A test fails while the page is out of date.
docs-config: $(VENV)/installed
	$(BIN)/python -m validation.configuration > docs/configuration.md

# Compares the engines of IndicConformer with NeMo, which is installed into an environment of its own; at the published
# size, with 2.4 GB of weights, unless SHORT=1. Skipped with a message if the package index lacks NeMo.
upstream-check: $(VENV)/complete
	nice -n 10 $(BIN)/python -m tests.support.upstream_check .local/upstream $(if $(SHORT),--short)

# --- measurements ----------------------------------------------------------------------------------------------------

# Batching against a plain baseline, on tiny models of the production architectures. Under three minutes.
bench: $(VENV)/complete
	$(BIN)/python bench/throughput.py

# Cost of the inference server compared with the same suite in the own process.
bench-inference: $(VENV)/installed
	$(BIN)/python bench/inference_overhead.py

# On a machine with a GPU: full-size models with random weights, under ten minutes. Needs torch and transformers only.
bench-gpu:
	$(PYTHON) bench/gpu.py

# Every step of bench/gpu.py without a GPU, and the compiled layers against the layers as they are.
bench-gpu-tiny: $(VENV)/complete
	$(BIN)/python -m pytest tests/bench tests/models/test_compiled.py -m slow

# Which signals and rules find which faults, injected into trusted clips, by language. JSON is in .local/truth.json.
truth bench-calibration: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/calibration.py

# The ledger at full scale, to the end of the queue: 507,387 videos, 100 workers, a real Postgres.
scale: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/scale.py

# The same in under a minute: CI runs it.
scale-short: $(VENV)/installed
	$(BIN)/python bench/scale.py --rows 20000 --paced-s 5 --pace 10 --every 2 --out scale-short.json

# How many workers a Prefect server supports, on SQLite and on Postgres.
prefect-load: $(VENV)/installed
	nice -n 10 $(BIN)/python bench/prefect_load.py

# --- environment -----------------------------------------------------------------------------------------------------

# uv takes 15 s and pip 2 min; both install exactly what constraints.lock pins. Byte-compiled here, because otherwise
# every Prefect process compiles at its start.
$(VENV)/installed: pyproject.toml constraints.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.lock -e '.[local,test]'
	touch $@

# The libraries of the production models, for tests, types and benchmarks. With pip, which installs the CPU build of
# torch if an extra index offers it.
$(VENV)/complete: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.lock -e '.[models]'
	touch $@

# One lock for all extras and platforms, without an index address.
PINS   := --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url
HASHES := -c constraints.lock --generate-hashes

lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras $(PINS) -o constraints.lock
	printf 'hatchling\neditables\n' | $(BIN)/uv pip compile pyproject.toml - --extra local $(PINS) $(HASHES) \
	    -o deploy/image/requirements-local.lock
	printf 'hatchling\neditables\nfaster-whisper\n' | $(BIN)/uv pip compile pyproject.toml - --extra gpu --extra models \
	    $(PINS) $(HASHES) -o deploy/image/requirements-gpu.lock $$(printf -- '--no-emit-package %s ' torch triton \
	    onnxruntime ctranslate2 $$(grep -oE '^(nvidia|cuda)-[a-z0-9-]*' constraints.lock | grep -v '^nvidia-ml-py'))

clean:
	rm -rf $(VENV) .local
