# `make help` lists the targets.

PREFIX       = /usr/local
DESTDIR      =
SYSCONFDIR   = $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
# Where Slurm is installed: its slurm/spank.h is what the plugin is compiled against.
SLURM_PREFIX = /usr
# The interpreter of the installed command. A shim of pyenv and the like is looked through: it would
# cost every start 100 ms.
PYTHON       = /usr/bin/python3

python  = $(shell $(PYTHON) -c 'import sys; print(sys.executable)')
libdir  = $(PREFIX)/lib/pinnace
libexec = $(PREFIX)/libexec/pinnace
plugin  = $(PREFIX)/lib/slurm/spank_pinnace.so
sudo    = $(if $(filter 0,$(shell id -u)),,sudo)
venv    = build/venv/bin
install = install -D -m 644
fill    = sed -e 's|@PYTHON@|$(python)|g' -e 's|@LIBDIR@|$(libdir)|g' -e 's|@LIBEXECDIR@|$(libexec)|g' \
              -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@BINDIR@|$(PREFIX)/bin|g' -e 's|@PLUGIN@|$(plugin)|g' \
              -e 's|@SLURM_PREFIX@|$(SLURM_PREFIX)|g'

all: ## Build the command, the executor and the SPANK plugin
	$(MAKE) -C libexec
	$(install) -m 755 libexec/pinnace-exec lib/pinnace/_libexec/pinnace-exec
	$(MAKE) -C spank SLURM_PREFIX=$(SLURM_PREFIX)

install: all ## Install below PREFIX (DESTDIR SYSCONFDIR SLURM_PREFIX PYTHON)
	cd lib && find pinnace -name '*.py' -exec $(install) '{}' '$(DESTDIR)$(libdir)/{}' ';'
	$(fill) lib/paths.py.in > $(DESTDIR)$(libdir)/pinnace/paths.py
	$(python) -m compileall -q -s '$(DESTDIR)' -p / $(DESTDIR)$(libdir)
	$(install) -m 755 libexec/pinnace-exec $(DESTDIR)$(libexec)/pinnace-exec
	$(install) spank/spank_pinnace.so $(DESTDIR)$(plugin)
	$(install) -m 755 libexec/pinnace $(DESTDIR)$(PREFIX)/bin/pinnace
	$(install) -m 755 bin/pinnace $(DESTDIR)$(libexec)/pinnace
	$(fill) bin/pinnace > $(DESTDIR)$(libexec)/pinnace
	$(install) etc/pinnace.toml $(DESTDIR)$(SYSCONFDIR)/pinnace/pinnace.toml
	for file in slurm/plugstack.conf.d/pinnace.conf apparmor.d/pinnace cron.d/pinnace; do \
		$(install) etc/$${file#slurm/} $(DESTDIR)$(SYSCONFDIR)/$$file && \
		$(fill) etc/$${file#slurm/} > $(DESTDIR)$(SYSCONFDIR)/$$file || exit 1; \
	done
	for unit in pinnace-gc.service pinnace-gc.timer; do \
		$(install) etc/systemd/$$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit && \
		$(fill) etc/systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; \
	done
	for page in $(wildcard docs/man/*.[1-8]); do \
		$(install) -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page || exit 1; \
	done

demo: prepare ## Start a two-node cluster on this machine and run a job in a container on it
	cd tests && $(sudo) ../$(venv)/python -m cluster.demo up

demo-down: ## Remove what `make demo` has started
	cd tests && $(sudo) /usr/bin/python3 -m cluster.demo down

test: prepare check ## Run all tests, from units to the cluster (ARGS="-k NAME …" for pytest)
	$(sudo) $(venv)/python -m pytest $(ARGS)

check: ## Run the tests of the C parts, under sanitizers
	$(MAKE) -C libexec check
	$(MAKE) -C spank check SLURM_PREFIX=$(SLURM_PREFIX)

lint: prepare ## Check style, types and the order of the packages
	$(venv)/ruff check .
	$(venv)/ruff format --check .
	$(venv)/mypy
	PYTHONPATH=lib $(venv)/lint-imports --cache-dir build/import-linter

bench: prepare ## Measure starts and pulls beside other tools (PEERS="crun podman" ARGS="starts pulls")
	tests/prepare bubblewrap charliecloud-runtime $(PEERS)
	cd tests && $(sudo) ../$(venv)/python -m bench.run $(ARGS)

torture: prepare ## Run the tests that take long
	$(sudo) $(venv)/python -m pytest -m "torture or sample" $(ARGS)

fuzz: prepare ## Fuzz what reads what strangers wrote (ARGS="image layer --minutes 10")
	test -f build/fuzz-venv/made || { /usr/bin/python3 -m venv build/fuzz-venv && \
		{ $(venv)/python -I tests/cluster/requirements.py; echo atheris; echo isal; echo lz4; } | \
		xargs -d '\n' build/fuzz-venv/bin/pip install --quiet --disable-pip-version-check && \
		touch build/fuzz-venv/made; }
	cd tests && PYTHONPATH=../lib:. nice -n 19 ../build/fuzz-venv/bin/python -m fuzz.run $(ARGS)

test-fresh-root: prepare ## Run demo and tests in a new minimal Debian root
	$(sudo) tests/fresh-root

test-slurm-matrix: prepare ## Run steps on the daemons of Slurm 22.05, 24.11 and 26.05 (ARGS="trixie sid" for some)
	$(sudo) tests/slurm-matrix $(ARGS)

prepare: # Everything that demo and tests need: packages, a virtual environment, the C parts
	tests/prepare
	$(MAKE) --silent all

clean: ## Remove everything that was built
	-$(MAKE) -C libexec clean
	-$(MAKE) -C spank clean
	rm -rf build

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

.PHONY: all install demo demo-down test check lint bench torture fuzz test-fresh-root test-slurm-matrix prepare clean help
