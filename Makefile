# wharfd: `make run` to try it, `make test` before a change lands. Both set up all they need.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
STAMP := $(VENV)/.installed
# Transcripts of the reference engine, where they are at hand beside the source tree.
REPLAY ?= ../shared/replay

# Debian packages, and a file that tells whether each is there.
PACKAGES := libseccomp2:/usr/lib/$(shell uname -m)-linux-gnu/libseccomp.so.2 \
            busybox-static:/bin/busybox procps:/bin/ps \
            tini:/usr/bin/tini-static iproute2:/sbin/ip git:/usr/bin/git
TEST_PACKAGES := docker-registry:/usr/bin/docker-registry openssl:/usr/bin/openssl \
            debootstrap:/usr/sbin/debootstrap strace:/usr/bin/strace docker-compose:/usr/bin/docker-compose \
            btrfs-progs:/bin/btrfs xfsprogs:/sbin/mkfs.xfs e2fsprogs:/sbin/mkfs.ext4 fuse-overlayfs:/usr/bin/fuse-overlayfs
# A kernel that has what this host's may lack, to run tests on.
ifeq ($(shell uname -m),x86_64)
TEST_PACKAGES += user-mode-linux:/usr/bin/linux.uml
endif
REPLAY_PACKAGES := jq:/usr/bin/jq curl:/usr/bin/curl gcc:/usr/bin/cc libc6-dev:/usr/include/stdlib.h

# What the daemon imports: imported once by `make venv`, so that no start compiles it.
# The API server first: the others go without TLS.
SERVICES := import services.apiserver.main, services.apiserver.server, services.apiserver.worker, uvicorn.lifespan.off, \
            uvicorn.protocols.http.h11_impl, gunicorn.workers.base, services.engine.launch.main, \
            services.engine.main, services.containerd_shim.main, services.containerd_shim.zygote

.PHONY: help venv packages test-packages run stop test lint unit integration e2e replay crash-points stalls bench lock clean

help:
	@sed -n 's/^#: //p' Makefile

#: make venv          .venv with everything, console scripts in .venv/bin; Debian packages if absent
venv: packages $(STAMP)

packages:
	@sh tests/harness/packages.sh python3-venv:venv $(PACKAGES)

test-packages:
	@sh tests/harness/packages.sh $(TEST_PACKAGES)

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml | packages
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(PYTHON) -m reexec --install $(BIN)
	env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/$(VENV)/pycache $(PYTHON) -OO -c "$(SERVICES)"
	touch $@

#: make run           start wharfd on unix:///run/wharfd/docker.sock and run a container
run: venv
	@$(PYTHON) -m examples.first_run

#: make stop          end the daemon that `make run` started
stop:
	@python3 -m examples.stop

#: make test          lint, types, import rule, unit, integration and e2e tests, transcripts
test: venv test-packages lint replay
	$(PYTHON) -m pytest

#: make lint          ruff (lint and format), mypy, import rule
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

#: make unit          tests that need no root
unit: venv
	$(PYTHON) -m pytest tests/unit

#: make integration   tests with real containers, as root
integration: venv test-packages
	$(PYTHON) -m pytest tests/integration

#: make e2e           the docker command and docker-py against a real daemon, as root
e2e: venv test-packages
	$(PYTHON) -m pytest tests/e2e

#: make replay        the transcripts of tests/replay.passing, where $(REPLAY) is there
replay: venv
	@if [ -x $(REPLAY)/replay ]; then \
	    sh tests/harness/packages.sh $(REPLAY_PACKAGES) && $(PYTHON) -m tests.harness.replay $(REPLAY); \
	else echo "no transcripts at $(REPLAY)"; fi

#: make crash-points  every operation, with services killed at one system call after the other (hours)
crash-points: venv test-packages
	WHARFD_CRASH_POINTS=60 $(PYTHON) -m pytest tests/e2e/test_crash_points.py tests/e2e/test_build_crash_points.py \
	  tests/e2e/test_crash_points_network.py tests/integration/storage/test_crash_points.py

#: make stalls        TESTS=tests/e2e: their processes stand still now and then; what counts on speed fails
stalls: venv test-packages
	mkdir -p build
	$(PYTHON) -m tests.harness.stalls --log build/stalls.log $(PYTHON) -m pytest $(TESTS)

#: make bench         wharfd against Debian's docker.io on this machine (BENCH=--quick for a short run)
bench: venv test-packages
	$(PYTHON) -m bench $(BENCH)

#: make lock          requirements*.txt from pyproject.toml: exact versions of everything
lock:
	sh tests/harness/lock.sh

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
