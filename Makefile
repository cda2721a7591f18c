# Two commands matter: `make image PROFILE=hypervisor` and `make test`.
# Both do all their own set-up; `make help` lists the rest.

PROFILE ?= hypervisor
RELEASE ?= 0.7
OUT ?= out
CARGO ?= cargo
SECONDS ?= 600
SF_IMAGE = $(CARGO) run --quiet --locked -p sf-image --

.DEFAULT_GOAL := help
.PHONY: help image check test lint advisories bench fuzz clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

image: ## Build a bootable image: PROFILE=hypervisor|network|database-tier, RELEASE=0.7
	@tests/prerequisites.sh compile
	$(SF_IMAGE) build --profile $(PROFILE) --release $(RELEASE) --output-dir $(OUT)

check: ## Validate all profiles and releases (no root, no network)
	@tests/prerequisites.sh compile
	$(SF_IMAGE) check

test: ## Prove everything: lints, unit and MariaDB tests, three images, boots in QEMU
	@tests/prerequisites.sh compile test
	tests/all.sh

lint: ## Format, clippy and dependency rules only
	@tests/prerequisites.sh compile lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --log-level error check bans licenses sources

advisories: ## Check dependencies against the advisory database (needs the internet)
	@tests/prerequisites.sh compile lint
	@cargo deny --log-level error check advisories || { \
	  echo "advisories: not checked, or findings above; the database comes from the internet" >&2; exit 1; }

bench: ## Measure builds, sizes, boots and the agent; prints the tables of docs/reference/performance.md
	@tests/prerequisites.sh compile test bench
	tests/bench.sh

fuzz: ## Fuzz every parser of foreign input for SECONDS=600 each
	@tests/prerequisites.sh compile fuzz
	tests/fuzz.sh $(SECONDS)

clean: ## Remove images and compiled code; the cache (SF_CACHE_DIR) stays
	rm -rf $(OUT) target
