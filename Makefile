# Few targets: fuzz (record decoders, ten minutes), demo (see it work), test (tests), check (style and types), refresh (reports/ and
# expected answers), lab-check (a handful of cases of the lab from nothing).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test tickets-redmine check fuzz refresh lab-check lab-smoke bench bench-batch bench-fleet clean

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
	@$(BIN)/mftriage analyze fixtures/x86_64-dentry/capsule.elf.zst
	@$(BIN)/mftriage analyze fixtures/x86_64-dentry/capsule.elf.zst -f html -o out/demo.html --force
	@echo "The same as HTML: $(CURDIR)/out/demo.html"

test: $(VENV)/ready
	$(BIN)/python -m pytest -q

# The ticket tests on a real Redmine: Debian's package, in a folder of its own.
tickets-redmine: $(VENV)/ready
	@dpkg -s redmine puma >/dev/null 2>&1 || \
	  BUNDLER_VERSION=2.3.15 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    redmine redmine-sqlite puma sqlite3
	MFTRIAGE_REDMINE=1 $(BIN)/python -m pytest -q tests/tickets/test_redmine.py

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: $(VENV)/ready
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.records 600

refresh: $(VENV)/ready
	$(BIN)/python -m fixtures.lab refresh

# In a cache of its own, so that everything is fetched and made anew.
lab-check: $(VENV)/ready
	@rm -rf out/lab
	MFTRIAGE_LAB_CACHE=$(CURDIR)/out/lab $(BIN)/python -m fixtures.lab make \
	  x86_64-dentry x86_64-load-in-kernel x86_64-anon x86_64-trixie-bit-flip \
	  x86_64-bookworm-load-in-kernel arm64-dentry arm64-external-abort

# One case from nothing: what CI runs.
lab-smoke: $(VENV)/ready
	@mkdir -p out
	MFTRIAGE_LAB_CACHE=$(CURDIR)/out/lab $(BIN)/python -m fixtures.lab make x86_64-dentry

# Of a dump and its vmlinux (make bench DUMP=vmcore VMLINUX=vmlinux); without them the lab makes the
# one and fetches the other, a gigabyte.
bench: $(VENV)/ready
	@$(BIN)/python tests/bench/bench.py $(if $(DUMP),$(DUMP) $(VMLINUX),$$($(BIN)/python -m fixtures.lab debuginfo))

# A batch of 50 dumps beside 50 runs of analyze, and its memory over 200 (make bench-batch DUMP=vmcore).
bench-batch: $(VENV)/ready
	@$(BIN)/python tests/bench/batch.py $(DUMP)

# The table of a fleet of a million dumps, made up: its limits are 5 s and 1.5 GB.
bench-fleet: $(VENV)/ready
	@$(BIN)/python -m tests.bench.fleet

clean:
	rm -rf $(VENV) out
