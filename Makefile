# Few targets: demo (see it work), test (tests), check (style and types), fixtures (refresh reports/).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check fixtures bench clean

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(BIN)/python .ci/get_pip.py; }
	@echo "Setting up $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	@mkdir -p out
	@$(BIN)/mftriage analyze fixtures/x86_64-sysctl-dentry/capsule.elf.zst
	@$(BIN)/mftriage analyze fixtures/x86_64-sysctl-dentry/capsule.elf.zst -f html -o out/demo.html --force
	@echo "The same as HTML: $(CURDIR)/out/demo.html"

test: $(VENV)/ready
	$(BIN)/python -m pytest -q

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fixtures: $(VENV)/ready
	$(BIN)/python -m tests.refresh

bench: $(VENV)/ready
	$(BIN)/python tests/bench/bench.py $(DUMP) $(VMLINUX)

clean:
	rm -rf $(VENV) out
