# All targets share one .venv, made on first use. The first `make` of anything takes some minutes to install.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PEERS := .venv/peers

# Hundreds of processes start; each would compile all of feller anew where the environment says that no bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-journeys test-portable check bench bench-dry docs audit-deps release-check clean

$(READY): pyproject.toml papers/pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('feller needs Python 3.11 or later: make PYTHON=python3.11 ...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' -e papers
	touch $(READY)

# Class-conditional handwritten digits: about five minutes on two cores.
demo: $(READY)
	$(BIN)/feller fit example:digits --minutes 2.5 --out runs/demo --overwrite
	$(BIN)/feller sample runs/demo -n 100 --out runs/demo/samples
	@echo "look at runs/demo/samples/grid.png and runs/demo/report.html"

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests papers/tests

# All tests: also those that take long and those of the page in a browser.
test-all: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peers,release]' -e papers
	scripts/browser.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m '' tests papers/tests

# What no shorter test shows: the page in a browser, examples of the pages, commands from words to files, runs that are
# killed, every kind of data in bfloat16.
test-journeys: $(READY)
	scripts/browser.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow tests/app/webui tests/test_docs.py tests/app/commands tests/app/workflows/test_processes.py \
		tests/app/workflows/test_mixed_precision.py tests/training/test_shared_training.py tests/training/couplings/test_ranks.py

# Tests that open kept runs, or compare fingerprints or numbers across processes, computed as four other processors would.
PROCESSORS := MKL_CBWR=COMPATIBLE MKL_CBWR=AVX2 GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA ATEN_CPU_CAPABILITY=default
# Two at a time, each in one process.
test-portable: $(READY)
	printf '%s\n' $(PROCESSORS) | xargs -P 2 -I SETTING sh -c '\
		said=$$(env SETTING OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider -m "portable and not slow" \
			$$(grep -rl --include="test_*.py" "pytest.mark.portable" tests) 2>&1); \
		status=$$?; echo "as with SETTING"; echo "$$said"; exit $$status'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

# The packages that benchmarks compare with; feller never needs them.
$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peers]'
	touch $(PEERS)

# Against other packages, in one run.
bench: $(PEERS)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

# Every peer once, untimed: whether the benchmarks still call them as they want to be called.
bench-dry: $(PEERS)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --dry

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python scripts/check_site.py docs/_build/html
	@echo "docs/_build/html/index.html"

# Known weaknesses of what feller needs; asks a service on the internet.
audit-deps: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	$(BIN)/python scripts/audit_deps.py

# The wheels of feller and of its reproductions, the same bytes twice, each with a list of what it needs (CycloneDX).
release-check: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	$(BIN)/python scripts/release_check.py dist

clean:
	rm -rf .venv docs/_build build dist papers/build papers/dist
