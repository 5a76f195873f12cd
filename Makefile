# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*))
STAMP  := $(VENV)/.installed
# Two test processes; the tests of one file stay together, for they share what is trained; the longest files come first.
TWO    := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check format lock clean

demo: $(STAMP)
	$(BIN)/nasplug run configs/quickstart.yaml

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy nasplug $(wildcard plugins/*/nasplug_*)
	$(BIN)/pytest -m "not slow" $(TWO)
	$(BIN)/pytest -m slow $(TWO) --durations=15

# The quick half of `make test`.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy nasplug $(wildcard plugins/*/nasplug_*)
	$(BIN)/pytest -m "not slow" $(TWO)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch first and pinned: an open range would bring gigabytes of CUDA to a machine that has no GPU.
$(STAMP): pyproject.toml requirements.lock $(wildcard plugins/*/pyproject.toml)
	@echo "Installing torch, then nasplug and its plugins into $(VENV): some minutes, without further words."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev]" $(addprefix -e ./,$(PLUGINS))
	touch $@

# Renew the pins from what is installed now.
lock: $(STAMP)
	(echo "# An installable set for Python 3.11 (constraints)."; $(BIN)/pip freeze --exclude-editable | sed "s/+cpu$$//") > requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
