# The whole vocabulary. Each target first makes sure of what it needs: see deploy/ensure.sh.
.PHONY: help demo test lint bench fuzz images soak

help: ## these lines
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: ## plays the chores for real with throw-away containers
	@deploy/ensure.sh build demo engine
	@deploy/demo.sh

# Most tests wait for containers, so half as many more at once than there are cores.
THREADS = $$(( ($$(nproc) * 3 + 1) / 2 ))

test: ## everything that can be tested on this machine, the engine included
	@deploy/ensure.sh build tests engine
	RUST_TEST_THREADS="$${RUST_TEST_THREADS:-$(THREADS)}" cargo test --workspace

lint: ## rustfmt, clippy, cargo-deny, shellcheck
	@deploy/ensure.sh build lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@deploy/lint.sh

bench: ## backup beside tar+zstd, restic and borg, logship beside rsyslog, ssh-gateway beside sshd; the tables land in bench/RESULTS.md
	@deploy/ensure.sh build bench engine
	bench/backup/run.py --usr
	bench/backup/database.py
	bench/logship/run.py
	bench/ssh/run.py

fuzz: ## every decoder of logship and ssh-gateway for half a minute each, with cargo-fuzz
	@deploy/ensure.sh build fuzz
	deploy/fuzz.sh

images: ## release binaries, static and stripped, and their images
	@deploy/ensure.sh build engine images
	@deploy/images.sh

soak: ## the randomised tests, twenty times as long
	@deploy/ensure.sh build tests engine
	CHORES_SOAK=20 cargo test --workspace
