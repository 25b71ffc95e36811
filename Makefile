# "make test" runs everything that decides whether a change is sound. What it
# needs beside Go, a C compiler and make, it makes itself, in .build and in the
# user's cache; on Debian and its kin it installs the system's Python with its
# shared library, and a debug build of it, where they are missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

ADDR ?= 127.0.0.1:8080
CLANG_FORMAT_VERSION := 21.1.8
export FUZZTIME ?=

MODULES := . embedded examples bench compat internal/hosttest
EMBEDDED_PYTHON = $$(go -C embedded run ./cmd/embedded-python)
C_FILES = $$(git ls-files -co --exclude-standard '*.c' '*.h')
GO_FILES = $$(git ls-files -co --exclude-standard '*.go')
RESULTS := awk -f scripts/results.awk

.PHONY: help
help:
	@echo 'make demo      serve examples/flask at http://$(ADDR)/ (another address: ADDR=);'
	@echo '               demo-django, -frontend, -nginx and -routers serve the others in examples'
	@echo 'make test      run all tests on the embedded CPython and the system'\''s Python'
	@echo 'make fuzz      look for bad input, a little; FUZZTIME=10m for longer, with each target'
	@echo 'make test-all  run the root module'\''s tests on every Python of this machine'
	@echo 'make bench     measure side by side with what else could be done'
	@echo 'make bench-sizing  measure numbers of interpreters and threads'
	@echo 'make lint      check the format and what vet, staticcheck and the C compiler say'
	@echo 'make fmt       format Go and C'
	@echo 'make clean     remove .build'

# ---- The demonstration

.PHONY: demo
demo: demo-flask
.PHONY: demo-flask demo-django demo-frontend demo-nginx demo-routers
demo-flask demo-django demo-frontend demo-nginx demo-routers: demo-%:
	@go -C examples build -o ../.build/$@ ./$*
	@exec .build/$@ -addr '$(ADDR)'

# ---- Tests

.PHONY: test
test: test-embedded test-system test-debug test-host test-sanitizers fuzz test-modules
	@scripts/skipped

.PHONY: test-embedded
test-embedded: .build/log test-packages .build/venv-embedded/made
	@echo '== The root module on the embedded CPython'
	go vet ./...
	scripts/venvs "$(EMBEDDED_PYTHON)" .build/venvs-embedded
	WSGI_PYTHON="$(EMBEDDED_PYTHON)" WSGI_TEST_VENV="$(CURDIR)/.build/venv-embedded" \
	WSGI_TEST_SECOND_PYTHON="$$(scripts/python system)" WSGI_TEST_VENVS="$(CURDIR)/.build/venvs-embedded" \
	go test -race -count=1 -v -timeout 15m ./... 2>&1 | tee .build/log/embedded.log | $(RESULTS)

# The servers that the tests of uwsgi talk to are yours to install on a machine of
# your own, or those tests are skipped; so is the browser of examples/django. A
# debug build of Python is only to be had on Debian and its kin, so elsewhere it is
# done without.
.PHONY: test-packages
test-packages:
	@scripts/python system >/dev/null
	@scripts/python debug >/dev/null || [[ -z $${CI-} ]]
	@if [[ $${CI-} ]]; then scripts/install nginx-light uwsgi-core uwsgi-plugin-python3 tzdata; fi

.PHONY: test-system
test-system: test-binaries test-packages .build/venv-system/made
	@echo '== The same on the system'\''s Python'
	scripts/venvs "$$(scripts/python system)" .build/venvs-system
	WSGI_TEST_SECOND_PYTHON="$(EMBEDDED_PYTHON)" WSGI_TEST_VENVS="$(CURDIR)/.build/venvs-system" \
	scripts/test-binaries "$$(scripts/python system)" "$(CURDIR)/.build/venv-system"

.PHONY: test-debug
test-debug: test-binaries test-packages
	@echo '== The same on a debug build of it, which counts references'
	@if python=$$(scripts/python debug); then \
		$(MAKE) --no-print-directory .build/venv-debug/made; \
		scripts/venvs "$$python" .build/venvs-debug; \
		WSGI_TEST_SECOND_PYTHON="$(EMBEDDED_PYTHON)" WSGI_TEST_VENVS="$(CURDIR)/.build/venvs-debug" \
		scripts/test-binaries "$$python" "$(CURDIR)/.build/venv-debug"; \
	else [[ -z $${CI-} ]]; fi

# These are linked to libpython, and to one of the Linux kind.
.PHONY: test-host
test-host: .build/log test-packages
	@echo '== In programs that run Python already'
	@set -- "$$(scripts/python system)" "$(EMBEDDED_PYTHON)"; \
	if [[ $$(uname) == Linux ]]; then \
		scripts/test-host "$$1" "$$2" 2>&1 | tee .build/log/host.log | $(RESULTS); \
		scripts/test-host "$$2" "$$1" 2>&1 | tee -a .build/log/host.log | $(RESULTS); \
	fi

# The C side with AddressSanitizer and UndefinedBehaviorSanitizer, and with what
# makes its allocations and its calls of CPython fail: docs/testing.md says more.
# What freed memory waits for before it is used again is bounded, so that tests
# of the process's size still tell something.
SANITIZERS := CGO_CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=undefined -fno-sanitize-recover=all' \
	CGO_LDFLAGS='-fsanitize=undefined'
SANITIZED := env ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64 \
	UBSAN_OPTIONS=print_stacktrace=1 TEST_BINARIES=.build/sanitized

.PHONY: test-sanitizers
test-sanitizers: .build/log test-packages .build/venv-embedded/made
	@echo '== The C side under sanitizers, and with failures made on purpose'
	mkdir -p .build/sanitized
	$(SANITIZERS) go test -vet=off -asan -tags faults -c -o .build/sanitized/ . ./pool ./internal/cpython
	scripts/venvs "$(EMBEDDED_PYTHON)" .build/venvs-embedded
	WSGI_TEST_SECOND_PYTHON="$$(scripts/python system)" WSGI_TEST_VENVS="$(CURDIR)/.build/venvs-embedded" TEST_FLAGS=-test.short \
	$(SANITIZED) scripts/test-binaries "$(EMBEDDED_PYTHON)" "$(CURDIR)/.build/venv-embedded"
	@if python=$$(scripts/python debug); then \
		TEST_FLAGS='-test.short -test.run=Fail|Leak' $(SANITIZED) scripts/test-binaries "$$python"; \
	else [[ -z $${CI-} ]]; fi

# By number and not by time, unless that is asked for: the end of a time may fall
# into the middle of a run, and Go takes that for a failure now and then.
.PHONY: fuzz
fuzz: .build/log
	@echo '== Fuzzing'
	@for target in .:FuzzEnviron:50000 .:FuzzScriptName:50000 .:FuzzStatusAndHeaders:10000 .:FuzzHandler:500 \
		./uwsgi:FuzzParseVars:50000 ./uwsgi:FuzzServer:30000 ./uwsgi:FuzzTransport:30000 ./forwarded:FuzzRequest:50000; do \
		IFS=: read -r package name count <<<"$$target"; \
		(set -x; WSGI_PYTHON="$(EMBEDDED_PYTHON)" go test -vet=off -run '^$$' -fuzz "^$$name$$" \
			-fuzztime "$${FUZZTIME:-$${count}x}" -fuzzminimizetime 20x "$$package"); \
	done

.PHONY: test-modules
test-modules: .build/log
	@if [[ $${CI-} ]]; then scripts/install chromium git libpq5; fi
	@echo '== The nested modules'
	cd embedded && go vet ./... && go test -count=1 -v -timeout 15m ./... 2>&1 | tee ../.build/log/modules.log | awk -f ../scripts/results.awk
	cd examples && go vet ./... && go test -race -count=1 -v -timeout 15m ./... 2>&1 | tee -a ../.build/log/modules.log | awk -f ../scripts/results.awk
	cd bench && go vet ./... && go test -count=1 -v ./... 2>&1 | tee -a ../.build/log/modules.log | awk -f ../scripts/results.awk
	cd compat && go vet ./... && go test -race -count=1 -v -timeout 15m ./... 2>&1 | tee -a ../.build/log/modules.log | awk -f ../scripts/results.awk

# Each Python gets a process of its own: a process can load only one.
.PHONY: test-all
test-all: test-binaries
	@failed=; \
	for python in "$(EMBEDDED_PYTHON)" $$(scripts/python all); do \
		echo "== $$("$$python" -V) at $$python"; \
		scripts/test-binaries "$$python" || failed+=" $$python"; \
	done; \
	if [[ $$failed ]]; then echo "Failed on:$$failed"; exit 1; fi; \
	echo 'Passed on all.'

.PHONY: test-binaries
test-binaries: .build/log
	@mkdir -p .build/tests
	go test -race -c -o .build/tests/ . ./pool ./internal/cpython

.build/log:
	@mkdir -p $@

.build/venv-embedded/made: examples/internal/flaskvenv/requirements.txt embedded/go.mod
	go -C embedded run ./cmd/embedded-python -venv ../$(@D) -- -r ../$<
	@touch $@

.build/venv-system/made .build/venv-debug/made: .build/venv-%/made: examples/internal/flaskvenv/requirements.txt
	rm -rf $(@D)
	"$$(scripts/python $*)" -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# ---- Benchmarks

# Each figure is a ratio of two that are measured in turns. The whole takes some
# twenty minutes and wants a machine that does nothing else; the quick one prints
# a line for each ratio, and says little more than that all of it works.
.PHONY: bench bench-quick
bench: bench-packages
	cd bench && go run .
bench-quick: bench-packages
	cd bench && go run . -quick

.PHONY: bench-sizing
bench-sizing:
	WSGI_PYTHON="$(EMBEDDED_PYTHON)" go -C bench run ./sizing

.PHONY: bench-packages
bench-packages: .build/venv-bench/made .build/venv-bench-system/made
	@scripts/install wrk valgrind uwsgi-core uwsgi-plugin-python3 apache2-bin libapache2-mod-wsgi-py3

.build/venv-bench/made: bench/requirements.txt
	go -C embedded run ./cmd/embedded-python -venv ../$(@D) -- -r ../bench/requirements.txt
	@touch $@

# Of the system's Python, for the peers that are compiled. One that does not
# compile is reported as missing.
.build/venv-bench-system/made: bench/requirements.txt bench/requirements-system.txt
	rm -rf $(@D)
	"$$(scripts/python system)" -m venv $(@D)
	grep '^flask=' bench/requirements.txt | $(@D)/bin/pip install --quiet --disable-pip-version-check -r /dev/stdin
	scripts/install libev-dev python3-dev gcc
	while read -r peer; do $(@D)/bin/pip install --quiet --disable-pip-version-check "$$peer" || true; done <bench/requirements-system.txt
	@touch $@

# ---- Checks without running

.PHONY: lint
lint: lint-go lint-c lint-platforms

.PHONY: lint-go
lint-go: .build/staticcheck
	@echo '== Go: gofmt, vet, staticcheck, go.mod'
	@unformatted=$$(gofmt -l $(GO_FILES)); if [[ $$unformatted ]]; then echo "gofmt would change:" $$unformatted; exit 1; fi
	@for module in $(MODULES); do (set -x; cd $$module && go vet ./... && go vet -tags faults ./... && "$(CURDIR)/.build/staticcheck" ./... && GOWORK=off go mod tidy -diff); done

# These compile everything, cgo aside, for systems that can't be run here.
.PHONY: lint-platforms
lint-platforms:
	@echo '== Go without cgo, for Windows and macOS'
	@for module in $(MODULES); do for goos in linux windows darwin; do \
		(set -x; cd $$module && CGO_ENABLED=0 GOOS=$$goos go vet ./...); \
	done; done

.PHONY: lint-c
lint-c: .build/clang-format/pyvenv.cfg
	@echo '== C: clang-format, the compiler'\''s warnings'
	.build/clang-format/bin/clang-format --dry-run -Werror $(C_FILES)
	@for file in $(C_FILES); do \
		[[ $$file == *.c ]] || continue; \
		(set -x; $(CC) -std=gnu11 -Wall -Wextra -Werror -fsyntax-only "$$file"; \
		$(CC) -DWSGI_FAULTS -std=gnu11 -Wall -Wextra -Werror -fsyntax-only "$$file"); \
	done

.PHONY: fmt
fmt: .build/clang-format/pyvenv.cfg
	gofmt -w $(GO_FILES)
	.build/clang-format/bin/clang-format -i $(C_FILES)

.build/staticcheck: tools/go.mod
	GOWORK=off go -C tools build -o ../$@ honnef.co/go/tools/cmd/staticcheck

# From PyPI, so that every machine has the same version.
.build/clang-format/pyvenv.cfg: Makefile
	go -C embedded run ./cmd/embedded-python -venv ../.build/clang-format clang-format==$(CLANG_FORMAT_VERSION)
	@touch $@

.PHONY: clean
clean:
	rm -rf .build
