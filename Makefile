# make demo: the whole path on drawn posters; make test: everything that CI runs. Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?=
SHELL := bash
.PHONY: demo test test-notebooks test-python test-after fuzz env export readme docs clean

env: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Making $(VENV): fastai and PyTorch, about 8 GB; half a minute with uv, some minutes with pip."
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	  uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'; fi
	@touch $@

demo: env
	$(BIN)/genre-fastai demo $(DEMO)

# the notebooks beside the tests, one thread each: more of them than cores wait for each other; some tests that start servers come
# after the notebooks, which are done first
AFTER := $(patsubst %,tests/test_%.py,serve uploader ray)
# both print at the same time: of what failed, the last lines come once more at the end
test: env
	@logs=$$(mktemp -d); trap 'rm -rf "$$logs"' EXIT; trap 'exit 130' INT TERM; \
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -k -j2 LOGS="$$logs" test-after test-python && exit; \
	for f in "$$logs"/*.failed; do printf '\n== %s failed; its last lines ==\n' "$$(basename "$$f" .failed)"; tail -n 30 "$$f"; done; exit 1
# $(call part,NAME,COMMAND)
part = set -o pipefail; { $(2); } $(if $(LOGS),2>&1 | tee "$(LOGS)/$(1)" || { mv "$(LOGS)/$(1)" "$(LOGS)/$(1).failed"; exit 1; })
# what the pages write goes into a temporary folder, as tests/conftest.py has it; weights are not fetched again
test-notebooks: env
	@own="$${XDG_CACHE_HOME:-$$HOME/.cache}"; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; trap 'exit 130' INT TERM; \
	TORCH_HOME="$${TORCH_HOME:-$$own/torch}" HF_HOME="$${HF_HOME:-$$own/huggingface}" XDG_CACHE_HOME="$$tmp" TMPDIR="$$tmp"; \
	export TORCH_HOME HF_HOME XDG_CACHE_HOME TMPDIR; $(call part,notebooks,$(BIN)/nbdev_test nbs --n-workers 1 --do-print)
test-python: env
	@$(call part,tests,$(BIN)/python -m pytest -q $(addprefix --ignore=,$(AFTER)))
test-after: env
	@$(MAKE) --no-print-directory test-notebooks; nbs=$$?; ( $(call part,servers,$(BIN)/python -m pytest -q $(AFTER)) ) && exit $$nbs

# hostile images, tables, pages, journals and model folders, some minutes of each; what fails is kept as a test
SECONDS_EACH ?= 600
FUZZ ?=
fuzz: env
	cd tests && PYTHONPATH=.. OMP_NUM_THREADS=1 "$(abspath $(BIN))/python" -m fuzz $(FUZZ) --seconds $(SECONDS_EACH)

# for those who edit: notebooks -> package, and index.ipynb -> README.md
export: env
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

readme: env
	$(BIN)/python tools/readme.py

# the site of pages and lessons, in _docs, with its links checked
docs: env
	@$(BIN)/python -c 'import material' 2>/dev/null || { if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev,docs]'; else $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,docs]'; fi; }
	$(BIN)/python tools/docs.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info
