# Every target sets up what it needs: a virtual environment, a Docker Engine where none works, images.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full lint picture engine clean venv

CACHE := $(or $(MIGRATE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/migrate)
export PIP_CACHE_DIR ?= $(CACHE)/pip-cache
PY := .venv/bin/python
ENGINE ?= standin
PROMPTS ?=
IMAGES ?= demo
RUN := tools/engine run
DEMO_IMAGES := $(if $(filter vllm,$(ENGINE)),demo vllm,demo)
ARGUMENTS := --engine $(ENGINE) $(if $(PROMPTS),--prompts '$(abspath $(PROMPTS))')

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: venv ## a whole migration under load (ENGINE=vllm: with the real vLLM; PROMPTS=file: compare these prompts)
	@$(RUN) sh -c '$(PY) tools/build_images.py $(DEMO_IMAGES) && exec $(PY) demo/run.py "$$@"' demo $(ARGUMENTS)

test: lint ## lint and all tests but the long ones, on a real Docker Engine and a real vLLM
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "not docker and not clients and not full"
	@$(PY) -m pytest -q -m "not docker and not full" tests/clients
	@$(RUN) sh -c '$(PY) tools/build_images.py demo vllm && \
	  { $(PY) -m pytest -q -m "staged and not full" & beside=$$!; \
	    $(PY) -m pytest -q -m "docker and not staged and not alone and not full"; rest=$$?; \
	    wait $$beside && [ $$rest = 0 ]; } && \
	  $(PY) -m pytest -q -m "alone and not full"'

test-full: lint ## everything, the long runs too
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "not docker"
	@$(RUN) sh -c '$(PY) tools/build_images.py demo vllm && $(PY) -m pytest -q -m docker'

lint: venv ## style, types and the direction of imports
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

setup: venv ## environment, engine and images (IMAGES='demo vllm': the real vLLM too)
	@$(RUN) $(PY) tools/build_images.py $(IMAGES)

picture: venv ## record the demo again as docs/demo.svg
	@$(PY) tools/picture.py make demo

engine: ## start an engine that stays up; then: eval "$(tools/engine env)"
	@tools/engine up

clean: ## stop the engine; remove .venv and the cache directory
	@tools/engine clean
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

venv:
	@tools/make_venv
