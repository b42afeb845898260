# Every target that needs packages sets .venv up first, which takes a moment when that is done already.
PYTHON ?= python3
JOBS ?= auto
BIN := .venv/bin
# A real model for the peers' tests: fetched once, and gone with .venv.
STARTERS := OWNLM_CACHE=$(CURDIR)/.venv/cache

# How long the server is soaked.
SECONDS ?= 1800

.PHONY: help install quickstart test test-peers soak lint format bench clean

help:
	@echo "make install             set up .venv for developers"
	@echo "make quickstart ARGS=... make a model and open a chat, as python3 start.py does"
	@echo "make test                every test that needs no live peer (JOBS=0: in one process)"
	@echo "make test-peers          the tests against live peers"
	@echo "make soak                the server under a mixed load for half an hour (SECONDS=120: two minutes)"
	@echo "make lint | format       check | put right the style; lint checks types too"
	@echo "make bench               every benchmark, one after another"
	@echo "make clean               remove caches; runs/ and .venv stay"

install:
	$(PYTHON) start.py --install-only --dev

quickstart:
	$(PYTHON) start.py $(ARGS)

# A file's tests stay in one process, for they share what is costly to make.
test: install
	$(BIN)/python -m pytest -m "not peers" -n $(JOBS) --dist loadfile --durations 10

test-peers:
	$(PYTHON) start.py --install-only --peers
	-$(STARTERS) $(BIN)/ownlm starter get smollm2 --yes
	$(STARTERS) $(BIN)/python -m pytest -m peers --durations 5

soak: install
	OWNLM_SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s tests/unit/test_server_soak.py

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy --strict start.py

format: install
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench:
	$(PYTHON) start.py --install-only --peers
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
