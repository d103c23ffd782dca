# Everything that is done with this repository. None of it needs root; `make` alone lists it.
#
#   PYTHON=python3.12   which Python to build .venv with (otherwise: the first that is 3.10 or newer)
#   BACKEND=cuda13      MLX on a CUDA card; otherwise Metal on macOS and the CPU on Linux
#   SYSTEM_PACKAGES=no  never install system packages for the tests
#   COVERAGE=yes        let the tests say which part of the package they run

BACKEND ?= auto
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(BACKEND)
RUN := scripts/with_blas.sh

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast eval fuzz floors bench storm kills recipes structure check format docs nano nano-card nano-stt nano-persona wheels lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## install into .venv

$(STAMP): pyproject.toml uv.lock scripts/install.sh
	@scripts/install.sh "$(VENV)" "$(BACKEND)"
	@touch $@

demo: $(STAMP)  ## a recorded conversation with Nano, offline: words, times, both voices and a picture in demo/
	@$(RUN) $(BIN)/moshi-mlx demo demo

test: $(STAMP)  ## run the whole test suite; PYTEST_ARGS="-k mimi" for a part of it
	@scripts/system_packages.sh
	@scripts/kyutai_client.sh $(VENV) build/kyutai
	@MOSHI_CLIENT=build/kyutai $(RUN) scripts/test.sh $(BIN)/python $(PYTEST_ARGS)

test-fast: $(STAMP)  ## the tests that need neither sound card nor browser nor patience: within a minute
	@$(RUN) $(BIN)/python -m pytest -n 2 -m "not serial and not browser and not slow" $(PYTEST_ARGS)

fuzz: $(STAMP)  ## every parser with 20,000 examples a test, other ones each time (about an hour); PYTEST_ARGS for a part
	@$(RUN) $(BIN)/python -m pytest -n 2 --hypothesis-profile fuzz $(wildcard tests/*/test_any_*.py) $(PYTEST_ARGS)

floors:  ## the tests of `make test-fast` with the lowest versions that pyproject.toml allows; FLOORS="3.10" for one Python
	scripts/floors.sh build/floors $(FLOORS)

bench: $(STAMP)  ## kernels, syncs and speed against moshi_mlx 0.3.0; fails when a gate is missed (minutes, CPU)
	@scripts/system_packages.sh
	@$(RUN) $(BIN)/python benchmarks/run.py $(BENCH_ARGS)

storm: $(STAMP)  ## two of four clients of a server are hostile, in many ways: what the others get, with controls (minutes)
	@$(RUN) $(BIN)/python benchmarks/storm.py $(STORM_ARGS)

kills: $(STAMP)  ## kill -9 at random moments of quantize, models get, finetune and chat: what lies there then (half an hour)
	@scripts/system_packages.sh
	@$(RUN) $(BIN)/python benchmarks/kills.py $(KILLS_ARGS)

eval: $(STAMP)  ## how Nano behaves in the builtin scenes, as it is and quantized (minutes); EVAL_ARGS="--plot eval.png"
	@scripts/system_packages.sh
	@$(RUN) $(BIN)/moshi-mlx eval nano nano+q8 nano+q4 --batch 16 --into build/eval --markdown $(EVAL_ARGS)

recipes: $(STAMP)  ## what each quantization does to what Nano says; searched and calibrated ones (minutes)
	@scripts/system_packages.sh
	@$(RUN) $(BIN)/python benchmarks/recipes.py $(RECIPES_ARGS)

structure: $(STAMP)  ## how the package is arranged, against the first build (needs the whole history)
	@$(BIN)/python scripts/structure.py --against 627c479

check: $(STAMP)  ## lint, formatting, types, generated documents; the page's too where Node can be had
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	scripts/check_javascript.sh $(VENV)
	$(BIN)/python scripts/make_cli_docs.py --check

format: $(STAMP)  ## let ruff and Biome tidy the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	scripts/check_javascript.sh $(VENV) --write

docs: $(STAMP)  ## write docs/cli.md anew
	$(BIN)/python scripts/make_cli_docs.py

nano:  ## train Nano anew, or go on with it (hours, an environment of its own in .venv-nano)
	scripts/train_nano.sh .venv-nano

nano-card:  ## measure Nano on voices that it never heard and write its card (minutes); CARD_ARGS="--minutes 8" for a part
	scripts/nano_card.sh .venv-nano-card $(CARD_ARGS)

nano-stt: $(STAMP)  ## train nano-stt anew, which writes down what is said, or go on with it (an hour on one core)
	scripts/train_nano_stt.sh $(BIN)/python

nano-persona:  ## train nano-persona, which is who it is told to be, on from the one in the package (after nano: two hours)
	scripts/train_nano_persona.sh .venv-nano

wheels: $(STAMP)  ## check that every Python installs from wheels alone on Apple Silicon (asks the package index)
	$(BIN)/python scripts/check_wheels.py

lock:  ## bring uv.lock up to date (needs uv)
	uv lock

clean:  ## remove what was built; .venv stays
	rm -rf build dist demo .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
