# `make compare` and `make test` each work on a clean machine with Python >= 3.11, make and access to a package index.

PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n 2 --dist loadfile

# What `make benchmark` measures with; made by name from the Hub where they are missing, or give folders of your own.
MODEL ?= results/inputs/gpt2-shape
DATA ?= results/inputs/cnn_dailymail

.PHONY: compare example reports test test-system test-all torture lint docs dist benchmark clean

compare: .venv/ready          ## the demo comparison, into results/demo
	$(BIN)/triptych compare

example: .venv/ready          ## run the demo again and write docs/example: its records and their report
	$(BIN)/triptych compare --fresh --preset demo --out results/example
	$(BIN)/python scripts/write_reports.py results/example

reports: .venv/ready          ## write the reports in docs again from the records there, in seconds
	$(BIN)/python scripts/write_reports.py

test: .venv/ready             ## the unit tests, about ten minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) tests/unit

test-system: .venv/ready      ## laws, hostile input, and commands as they are started; 25 minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) tests/hostile tests/laws
	$(BIN)/python -m pytest $(PARALLEL) --no-loadscope-reorder --slow tests/processes

test-all: .venv/ready         ## all tests: also full-size models, browser, faults, a cluster
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,browser,play,ray,quant]'
	$(BIN)/python -m pytest $(PARALLEL) --no-loadscope-reorder --slow

torture: .venv/ready          ## stress tests with kills, faults and hostile files: two hours
	$(BIN)/python scripts/torture_kills.py results/torture --kills 50
	$(BIN)/python scripts/torture_faults.py results/torture-faults
	$(BIN)/python scripts/torture_inputs.py --cases 10000 --seed 0

# in benchmarks, whose imports may be missing, only what would fail: names and calls that are no longer there
CALLS := $(patsubst %,--disable-error-code %,arg-type assignment misc no-redef operator type-var union-attr var-annotated \
  import-not-found import-untyped) --exclude former_rule

lint: .venv/ready             ## formatting, lint rules and types
	$(BIN)/ruff format --check src tests scripts benchmarks examples
	$(BIN)/ruff check src tests scripts benchmarks examples
	$(BIN)/mypy
	$(BIN)/mypy $(CALLS) benchmarks

docs: .venv/ready             ## the documentation site, into build/site; a warning or a broken link is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python scripts/check_site.py build/site

dist: .venv/ready             ## wheel and sdist, into build/dist; the wheel is tried in an empty environment
	$(BIN)/python -m pip install --quiet --constraint constraints.txt build
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python scripts/try_wheel.py build/dist

benchmark: .venv/ready | $(MODEL) $(DATA)  ## compare the engine with Trainer, TRL and generate: MODEL=FOLDER DATA=FOLDER ONLY=lora,greedy PRECISION=fp32
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[benchmark]'
	$(BIN)/python benchmarks/engine.py --model $(MODEL) --data $(DATA) $(if $(ONLY),--only $(ONLY)) $(if $(PRECISION),--precision $(PRECISION))

results/inputs/gpt2-shape: | .venv/ready
	$(BIN)/python scripts/make_gpt2.py $@

results/inputs/cnn_dailymail: | .venv/ready
	$(BIN)/python scripts/fetch_data.py $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Triptych needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build results
