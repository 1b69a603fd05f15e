# Everything here sets up what it needs: a virtual environment per Python and build mode, in .venv/.
# `make test PYTHON=python3.13` does the same on another Python. ARGS is handed to what is run, and TESTS
# are the files or folders for pytest, WITHOUT those to leave out (a:b), BENCH is the script of benchmarks/ to run.

PYTHON ?= python3
ARGS ?=
TESTS ?= tests
BENCH ?= compare
WITHOUT ?=
SPARES ?= 0 1
DRAFT ?= --draft

# With ccache, what was compiled once is not compiled again.
ifeq ($(origin CC),default)
export CC := $(if $(shell command -v ccache),ccache gcc,gcc)
endif

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3] + sys.abiflags)')
ifeq ($(VERSION),)
$(error "$(PYTHON)" does not run; choose a Python with `make PYTHON=...`)
endif

ENV := .venv/$(VERSION)-release
ASAN := .venv/$(VERSION)-asan
DEBUG := .venv/$(VERSION)-debug
RUN := $(ENV)/bin/python

# Compiled is what has a .pxd beside it.
DECLARED := $(shell find src/hoop -name "*.pxd")
CORE := $(DECLARED) $(wildcard $(DECLARED:.pxd=.py) src/hoop/_c/*.h)
SOURCES := $(CORE) $(shell find src/hoop -name '*.py' -o -name '*.pyi' -o -name '*.html')
PIP := -m pip --disable-pip-version-check
# Tests that would do the same as with io_uring.
WITHOUT_DRIVER := tests/cli tests/downstream tests/frameworks tests/sim \
	$(addprefix tests/test_,benchmarks.py binaries.py documents.py hot_path.py import.py project.py tidy.py time_limit.py)
RUN_CONFORMANCE := $(if $(filter tests,$(patsubst %/,%,$(TESTS))),$(wildcard tests/conformance/run.py))

SANITIZERS = $(shell gcc -print-file-name=libasan.so) $(shell gcc -print-file-name=libubsan.so)
SANITIZED = LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	PYTHONMALLOC=malloc

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help demo test test-refused test-frameworks new-user bench lint format asan fuzz simulate debug conformance docs wheels \
	changes build ready linters clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(ENV)/.built $(ENV)/.with-demo ## serve, drive and observe a chat room on hoop (ONCE=1: then stop; BLOCK=1: block its loop)
	$(RUN) -m hoop.demo $(if $(ONCE),--once) $(if $(BLOCK),--block) $(ARGS)

test: $(ENV)/.built $(ENV)/.with-test ## all tests, and CPython's own for tasks, locks, queues (TESTS=tests/net: only those)
	@status=0; $(RUN) -m pytest $(TESTS) $(patsubst %,--ignore=%,$(subst :, ,$(WITHOUT))) $(ARGS) || status=1; \
	$(if $(RUN_CONFORMANCE),$(RUN) $(RUN_CONFORMANCE) || status=1;) \
	exit $$status

test-refused: $(ENV)/.built $(ENV)/.with-test ## the tests in a process to which the kernel refuses io_uring
	$(RUN) tests/refused.py EPERM $(RUN) -m pytest $(TESTS) $(WITHOUT_DRIVER:%=--ignore=%) $(ARGS)

test-frameworks: $(ENV)/.built $(ENV)/.with-test $(ENV)/.with-frameworks ## each line of docs/frameworks.md, with every framework installed
	$(RUN) -m pytest tests/frameworks/test_documented.py -rs $(ARGS)

new-user: $(ENV)/.built $(ENV)/.with-test $(ENV)/.with-wheels ## the same in new environments, with hoop's wheel and one framework each
	$(RUN) tools/new_user.py $(ARGS)

bench: $(ENV)/.built $(ENV)/.with-bench $(ENV)/.with-rivals ## compare with others and bare C (BENCH=soak, BENCH=track: see benchmarks/)
	$(RUN) benchmarks/$(BENCH).py $(ARGS)

lint: $(ENV)/.built $(ENV)/.with-demo $(ENV)/.with-lint ## ruff, mypy on the package and on the core, pyright on examples/, stubtest, the files of .github
	@status=0; check() { echo "$$*"; "$$@" || status=1; }; \
	check $(ENV)/bin/ruff check --output-format=concise .; \
	check $(ENV)/bin/ruff format --check --output-format=concise .; \
	check $(RUN) -m mypy; \
	check $(ENV)/bin/basedpyright --pythonpath $(RUN); \
	check $(RUN) tools/check_core.py; \
	check env MYPYPATH=typings:src $(RUN) -m mypy.stubtest hoop --concise \
		--ignore-disjoint-bases --allowlist tests/typing/stubtest-allowlist.txt; \
	schema() { check $(RUN) -m check_jsonschema --builtin-schema vendor.$$*; }; \
	schema github-workflows .github/workflows/*.yml; \
	schema github-issue-config .github/ISSUE_TEMPLATE/config.yml; \
	schema github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml)); \
	schema dependabot .github/dependabot.yml; \
	check $(ENV)/bin/zizmor --offline --quiet .github; \
	exit $$status

format: $(ENV)/.with-lint ## let ruff format everything, and mend what it can
	$(ENV)/bin/ruff check --fix-only .
	$(ENV)/bin/ruff format .

asan: $(ASAN)/.built $(ASAN)/.with-test ## the tests on a build with sanitizers, without and with spare objects (SPARES=0, SPARES=1: one of the two)
	@status=0; for spares in $(SPARES); do \
		echo "HOOP_SPARES=$$spares"; \
		HOOP_SPARES=$$spares $(SANITIZED) $(ASAN)/bin/python -m pytest $(TESTS) -p no:cacheprovider $(ARGS) \
			|| status=1; \
	done; exit $$status

fuzz: $(ASAN)/.built $(ASAN)/.with-test ## random programs on that build, with spare objects (ARGS="--minutes 30 --driver epoll --seed 1")
	HOOP_SPARES=1 $(SANITIZED) $(ASAN)/bin/python tests/fuzz/run.py $(ARGS)

simulate: $(ENV)/.built $(ENV)/.with-test ## hoop's own streams, TLS and locks, and libraries, in 100,000 simulated worlds each (ARGS="--minutes 30")
	$(RUN) tests/sim/simulate.py $(ARGS)

debug: $(DEBUG)/.built $(DEBUG)/.with-test ## the tests on a build with C assertions and no optimisation
	$(DEBUG)/bin/python -m pytest $(TESTS) -p no:cacheprovider $(ARGS)

conformance: $(ENV)/.built $(ENV)/.with-test ## CPython's own asyncio tests, every module, on hoop
	$(RUN) tests/conformance/run.py --all $(ARGS)

docs: $(ENV)/.built $(ENV)/.with-docs ## the site, into build/site, with its links checked and its programs run
	$(RUN) tools/docs.py $(ARGS)

wheels: $(ENV)/.env $(ENV)/.with-wheels ## the source archive, and a wheel for each Python that is here, into dist/
	$(RUN) tools/wheels.py $(ARGS)

changes: $(ENV)/.installed $(ENV)/.with-release ## the changelog of what is not released yet, by towncrier (DRAFT=: write it)
	$(RUN) -m towncrier build $(DRAFT) $(ARGS)

build: $(ENV)/.built ## compile the core in place, for PYTHON, into an editable installation

ready: $(ENV)/.built $(ENV)/.with-test ## build, and install what the tests need

linters: $(ENV)/.with-demo $(ENV)/.with-lint

clean: ## remove everything that was built, with the virtual environments
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find src -name '*.so' -delete
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environments ----
# `python -m venv` needs ensurepip, which some distributions split off. Then python3's pip fetches the newest one,
# since an older one may not run on this Python, and that one installs itself.

.venv/$(VERSION)-%/.env: pyproject.toml
	@echo "setting up .venv/$(VERSION)-$*"
	@$(PYTHON) -m venv .venv/$(VERSION)-$* >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip .venv/$(VERSION)-$* && \
		python3 $(PIP) install -q --upgrade --target .venv/pip pip && \
		python3 .venv/pip/pip --disable-pip-version-check --python .venv/$(VERSION)-$*/bin/python install -q pip; }
	@.venv/$(VERSION)-$*/bin/python $(PIP) install -q --upgrade 'pip>=25.1'
	@.venv/$(VERSION)-$*/bin/python $(PIP) install -q --group build
	@touch $@

$(ENV)/.installed: $(ENV)/.env setup.py
	@echo "building hoop for Python $(VERSION)"
	@$(RUN) $(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $@

# The time that counts is that of the beginning: a file that is changed meanwhile is built the next time.
$(ENV)/.built: $(ENV)/.installed $(CORE)
	@touch $@.begun
	@$(RUN) setup.py -q build_ext --inplace
	@mv $@.begun $@

# Not editable: extensions of another mode must never lie beside the sources.
$(ASAN)/.built $(DEBUG)/.built: .venv/$(VERSION)-%/.built: .venv/$(VERSION)-%/.env setup.py $(SOURCES)
	@echo "building hoop for Python $(VERSION), $*"
	@touch $@.begun
	@HOOP_BUILD=$* .venv/$(VERSION)-$*/bin/python $(PIP) install -q --no-build-isolation --no-deps \
		--force-reinstall .
	@mv $@.begun $@

# Some of these have no wheel for this Python. pip cannot install those, and they are left out.
$(ENV)/.with-rivals: $(ENV)/.env
	@for rival in rloop blazio talyn zuvloop rsloop; do \
		$(RUN) $(PIP) install -q --only-binary :all: $$rival >/dev/null 2>&1 \
			|| echo "$$rival does not install here"; \
	done
	@touch $@

$(ENV)/.with-%: $(ENV)/.env
	@$(RUN) $(PIP) install -q --group $*
	@touch $@

$(ASAN)/.with-test $(DEBUG)/.with-test: %/.with-test: %/.env
	@$*/bin/python $(PIP) install -q --group test
	@touch $@
