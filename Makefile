# make lab | demo | test | notebooks | bench | clean
# Each sets itself up in .venv first; there is no other step, and a set-up that broke off is resumed by typing make again.
# PYTHON=/path/to/python3.12 chooses the interpreter; LAB="--no-browser --port 8890" is handed to `upsnet-lite lab`.

SHELL  := bash
VENV   := .venv
PY     := $(VENV)/bin/python
RUN    := $(PY) -m upsnet_lite
SHAPES := data/shapes/annotations/panoptic_val.json
DEMO   := runs/demo

# Its metadata asks for numpy<2, but it runs with numpy 2: installed alone, so that numpy stays current.
PANOPTICAPI := panopticapi-lite==0.2.0

.PHONY: help lab demo test notebooks bench clean venv
help:
	@echo "make lab         JupyterLab with the notebooks, the data and the shipped model"
	@echo "make demo        the same without a browser: data, evaluation, two minutes of training, a page of pictures"
	@echo "make test        ruff and all tests"
	@echo "make notebooks   run every notebook from a clean kernel, in place (OUT=folder: write there instead)"
	@echo "make bench       time the stages on this machine"
	@echo "make clean       remove .venv, runs, caches and the drawn data"

# ---- set-up ----------------------------------------------------------------------------------------------------------

# Nothing where .venv is missing, was left half made, lost its Python, has too old a one or is to be cleaned first: it is
# then made anew.
usable := $(if $(filter clean,$(MAKECMDGOALS)),,$(shell [ ! -e $(VENV)/.unfinished ] && $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo yes))

venv:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "UPSNet-lite needs Python 3.10 or newer$(if $(PYTHON), and $(PYTHON) is not one): install it (python.org or your package manager) or name it, 'make PYTHON=/path/to/python3'." >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$found cannot create virtual environments: install its venv module (Debian, Ubuntu: 'sudo apt install python3-venv') and type make again." >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	rm -rf $(VENV) && mkdir $(VENV) && touch $(VENV)/.unfinished && "$$found" -m venv $(VENV) && rm $(VENV)/.unfinished

# In a terminal one line shows what pip is doing; elsewhere pip stays silent unless it fails.
one_line = while IFS= read -r line; do [ ! -t 1 ] || printf '\r\033[K%4d s  %.90s' "$$SECONDS" "$$line"; done; [ ! -t 1 ] || printf '\r\033[K'

$(VENV)/.installed-%: pyproject.toml $(if $(usable),,venv)
	@echo "Installing PyTorch and what '$*' needs into $(VENV): 2 to 10 minutes the first time, 6 GB on disk"
	@set -o pipefail; { $(PY) -m pip install --disable-pip-version-check --progress-bar off -e '.[$*]' \
	  && $(PY) -m pip install --disable-pip-version-check --no-deps $(PANOPTICAPI); } | { $(one_line); } \
	  || { echo "The set-up broke off (see above); type make again to resume it." >&2; exit 1; }
	@$(PY) -m upsnet_lite.environment $*
	@touch $@

$(SHAPES): | $(VENV)/.installed-lab
	$(RUN) data shapes --out data/shapes --train 2000 --val 200

# ---- what it is for --------------------------------------------------------------------------------------------------

lab: $(VENV)/.installed-lab $(SHAPES)
	@$(RUN) lab $(LAB)

demo: $(VENV)/.installed-lab $(SHAPES)
	@rm -rf $(DEMO)
	$(RUN) eval tiny-shapes --data data/shapes --split val --out $(DEMO)/shipped
	$(RUN) train --preset tiny --data data/shapes --out $(DEMO)/scratch --minutes 2
	$(RUN) eval $(DEMO)/scratch --data data/shapes --split val --out $(DEMO)/two_minutes
	$(PY) -m upsnet_lite.viz.gallery --checkpoint tiny-shapes --data data/shapes --split val --out $(DEMO) \
	  --metrics 'shipped=$(DEMO)/shipped/metrics.json' 'two minutes=$(DEMO)/two_minutes/metrics.json'
	@$(RUN) compare $(DEMO)/shipped $(DEMO)/two_minutes
	@echo "Pictures: $(CURDIR)/$(DEMO)/index.html"

test: $(VENV)/.installed-test
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(PY) -m pytest

notebooks: $(VENV)/.installed-lab $(SHAPES)
	@$(PY) tests/notebooks/execute.py $(or $(OUT),notebooks)

bench: $(VENV)/.installed-lab
	@$(RUN) bench

clean:
	rm -rf $(VENV) runs data/shapes build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
