# Everything a developer or a newcomer runs. `make demo` and `make test` are the two to begin with.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# uv where it is there, plain pip otherwise; `make UV=` forces pip.
UV ?= $(shell command -v uv 2>/dev/null)
export DAGSTER_HOME ?= $(CURDIR)/.dagster

.PHONY: demo test dev check lock benchmark clean help

help:
	@echo "make demo   install, build the sample inbox, run every product on it, ask it a question"
	@echo "make test   run the whole test suite"
	@echo "make dev    the web UI and the daemon on 127.0.0.1, watching ./inbox"
	@echo "make check  lint, types and layers"
	@echo "make lock   renew the locked requirements"

demo: $(VENV)/installed
	@$(BIN)/python -m examples.build_sample inbox
	@$(BIN)/cortex run kestrel
	@echo
	@echo '$$ cortex ask --project kestrel "$(QUESTION)"'
	@$(BIN)/cortex ask --project kestrel "$(QUESTION)"

QUESTION ?= How often does a receiver upload its readings?

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto $(TESTS)

dev: $(VENV)/installed
	@mkdir -p $(DAGSTER_HOME) inbox
	@cp ops/dagster.yaml $(DAGSTER_HOME)/dagster.yaml
	$(BIN)/dagster dev --host 127.0.0.1 --workspace workspace.yaml

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:
	$(BIN)/uv pip compile $(LOCK) --group build --output-file requirements/run.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --group dev --constraints requirements/run.txt --output-file requirements/dev.txt pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --extra deploy --group build --constraints requirements/run.txt --output-file requirements/deploy.txt pyproject.toml

LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-strip-extras

$(VENV)/installed: requirements/dev.txt pyproject.toml
ifneq ($(UV),)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	@touch $@

clean:
	rm -rf $(VENV) .dagster .cortex store reports inbox/kestrel
