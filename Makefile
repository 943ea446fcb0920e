# Builds and tests Duralog. Needed: Rust, a C compiler, Python 3. What else some tests can use
# (valgrind, a C++ compiler) is used where it is there, and its absence is said.
#
#     make              the library: libduralog.so and libduralog.a. FEATURES=ndjson, here and with all
#                       that follows, adds what is optional: eventstore_import_ndjson and its like
#     make quickstart   builds everything and shows it at work
#     make examples     the C programs of examples-c/
#     make test         all tests
#     make mutants      plants bugs and shows which test notices each; takes two hours
#     make powercut-disk   cuts the power under ext4, XFS and btrfs (as root; not part of make test)
#     make tsan         the tests with threads under ThreadSanitizer (not part of make test)
#     make fuzz         the targets of fuzz/ under cargo-fuzz, FUZZ_SECONDS each (not part of make test)
#     make bench        measures it beside the raw limit, NDJSON and SQLite (see benches/README.md);
#                       BENCH="--only log-append --json" gives options. bench-smoke: tiny, does it run?
#     make install      to PREFIX (/usr/local): library, header, pkg-config file
#     make clean

PREFIX ?= /usr/local
FEATURES ?=
CARGO ?= cargo
PYTHON ?= python3
CFLAGS ?= -O2 -g
WARNINGS = -std=c99 -Wall -Wextra -Wpedantic -Werror

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET)/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
BUILD_FEATURES := $(if $(FEATURES),--features "$(FEATURES)")
# What a feature adds is seen in the header by its macro, and one of the examples needs it.
DEFINES := $(if $(findstring ndjson,$(FEATURES)),-DDURALOG_NDJSON)
LEFT_OUT := $(if $(findstring ndjson,$(FEATURES)),,examples-c/eventstore_ndjson.c)
EXAMPLES := $(patsubst examples-c/%.c,$(TARGET)/examples-c/%,$(filter-out $(LEFT_OUT),$(wildcard examples-c/*.c)))
WITH_PACKAGE := PYTHONPATH=bindings/python/src DURALOG_LIBRARY=$(RELEASE)/libduralog.so

.NOTPARALLEL:
.PHONY: library examples quickstart test test-lints test-rust test-library test-loom test-python install clean mutants \
    powercut-disk tsan fuzz bench bench-build bench-smoke

library:
	$(CARGO) build --release $(BUILD_FEATURES)

# ---- examples ----

examples: library $(EXAMPLES)

$(RELEASE)/libduralog.so: library

$(TARGET)/examples-c/%: examples-c/%.c $(wildcard examples-c/*.h) include/duralog.h $(RELEASE)/libduralog.so
	@mkdir -p $(@D)
	$(CC) $(WARNINGS) $(CFLAGS) $(DEFINES) -Iinclude $< -o $@ -L$(RELEASE) -lduralog -pthread -Wl,-rpath,$(RELEASE)

quickstart: examples
	@echo
	@$(WITH_PACKAGE) $(PYTHON) tools/quickstart.py $(TARGET)/examples-c/quickstart $(TARGET)/quickstart

# ---- tests ----

test: test-lints test-rust test-library test-loom test-python quickstart
	@echo "make test: all passed"

test-lints:
	@if $(CARGO) fmt --version >/dev/null 2>&1; then set -x; $(CARGO) fmt --check; \
	else echo "skipped: cargo fmt is not installed"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then set -x; $(CARGO) clippy --all-targets -- -D warnings; \
	else echo "skipped: cargo clippy is not installed"; fi
	$(CARGO) doc --no-deps --quiet
	$(PYTHON) tools/mutants.py --check

test-rust:
	$(CARGO) test --no-fail-fast

# The tests above were built once, with every feature (Cargo.toml). This is the library as it is
# shipped, which has to be built anyway: what it exports, and the C tests against it.
test-library: library
	DURALOG_TEST_LIBRARY=$(RELEASE) DURALOG_TEST_FEATURES="$(FEATURES)" \
	    $(CARGO) test --no-fail-fast --test header --test c_face

# The group committer under a model checker, in a target directory of its own, since everything is
# compiled with another flag.
test-loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --lib --target-dir $(TARGET)/loom loom

# Installing the package is tried where there is a pip.
test-python: library
	$(WITH_PACKAGE) DURALOG_TEST_INSTALL=$$($(PYTHON) -m pip --version >/dev/null 2>&1 && echo 1) \
	    $(PYTHON) -m unittest discover -v -s bindings/python/tests

# Bugs planted one at a time, each of which some test must notice. Not part of `make test`.
mutants:
	$(PYTHON) tools/mutants.py

# The standard library stays uninstrumented: see src/sync.rs and tests/tsan.supp. The other processes
# of the tests, in C and Python, use the library as it is built for release.
TSAN_TEST = $(CARGO) test --target x86_64-unknown-linux-gnu --target-dir $(TARGET)/tsan

tsan: library
	@if ls "$$(rustc --print target-libdir)"/librustc-*_rt.tsan.a >/dev/null 2>&1; then set -ex; \
	export RUSTC_BOOTSTRAP=1 DURALOG_TEST_LIBRARY=$(RELEASE); \
	export TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp history_size=4"; \
	export RUSTFLAGS="--cfg duralog_tsan -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"; \
	$(TSAN_TEST) --test threads --test processes --test without_waiting --test long_replay \
	    --test eventstore_long_read -- --test-threads=1; \
	$(TSAN_TEST) --test faults -- --test-threads=1 every_waiter_of_a_group; \
	$(TSAN_TEST) --test eventstore_subscriptions --test eventstore_bank -- --test-threads=1 --skip killed; \
	DURALOG_MODEL_RUNS=4 $(TSAN_TEST) --test eventstore_model -- many_threads; \
	else echo "skipped: this Rust compiler comes without the runtime of ThreadSanitizer"; fi

# What is found new stays in the target directory: the corpus in fuzz/ is kept small.
FUZZ_SECONDS ?= 300

fuzz:
	@if $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then set -ex; \
	for name in segment open packed event index; do mkdir -p $(TARGET)/fuzz/found/$$name; \
	$(CARGO) +nightly fuzz run --target-dir $(TARGET)/fuzz $$name $(TARGET)/fuzz/found/$$name \
	    fuzz/corpus/$$name -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; done; \
	else echo "skipped: needs a nightly Rust compiler and cargo-fuzz (cargo install cargo-fuzz)"; fi

# SAMPLES, SEED, BATCHES and FS say how long and where: see the script.
powercut-disk: library
	sh tools/powercut_disk.sh $(TARGET)

# ---- benchmarks ----

# Built in its own folder, where the flags of the SQLite that it brings stand (benches/.cargo).
BENCH ?=
RUN_BENCH = PYTHON="$(PYTHON)" PYTHONPATH="$(CURDIR)/bindings/python/src$(if $(PYTHONPATH),:$(PYTHONPATH))" \
    DURALOG_LIBRARY="$(RELEASE)/libduralog.so" \
    $(TARGET)/benches/release/duralog-bench --dir $(TARGET)/bench

bench: bench-build
	@$(RUN_BENCH) $(BENCH)

bench-smoke: bench-build
	@$(RUN_BENCH) --smoke $(BENCH)

bench-build: library
	cd benches && $(CARGO) build --release --locked --target-dir $(TARGET)/benches

# ---- installation ----

install: library
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(RELEASE)/libduralog.so $(DESTDIR)$(PREFIX)/lib/
	install -m 644 $(RELEASE)/libduralog.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/duralog.h $(DESTDIR)$(PREFIX)/include/
	printf '%s\n' 'prefix=$(PREFIX)' '' 'Name: duralog' 'Description: An embedded write-ahead log' \
	    'Version: $(VERSION)' 'Cflags: -I$${prefix}/include$(if $(DEFINES), $(DEFINES))' 'Libs: -L$${prefix}/lib -lduralog' \
	    'Libs.private: -lpthread -ldl -lm -lgcc_s' \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/duralog.pc

clean:
	$(CARGO) clean
	find . -name __pycache__ -type d -not -path './target/*' -exec rm -rf {} +
