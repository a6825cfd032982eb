# shardlens
#
# make demo        install what is missing, build, write a sample checkpoint, open the terminal UI on it
# make test        install what is missing, build, run all tests; the last line is "N passed, N failed"
#
# make             build/shardlens, build/libshardlens.a and build/libshardlens.so
# make install     into $(DESTDIR)$(PREFIX): program, library, headers, man page, completions
# make uninstall   takes the same files away
# make static      build-static/shardlens: one file that runs on any Linux of this processor
# make mpi         build/mpi/shardlens, of which mpirun starts several: docs/cluster.md; needs Open MPI
# make dist        shardlens-VERSION.tar.xz, the source archive
# make deb         a Debian package; needs debhelper
# make deps        install the Debian or Ubuntu packages that are missing
# make clean       remove the build folders
#
# make test-ROOM   the tests of one room: base format checkpoint model layout plan run api cli tui
# make asan        all tests under the address and undefined-behaviour sanitizers
# make tsan        the tests of base, run and api under the thread sanitizer
# make torture     docs/promises.md at length: every direction killed KILLS (400) times and resumed, every call
#                  failed, disks of every size, 200 power cuts
# make fuzz        every fuzz target for FUZZ_SECONDS (600) with libFuzzer; needs clang
# make fuzz-smoke  the same, a few seconds each
# make lint        include directions, banned functions, cppcheck, clang-tidy
# make interop     real torch, Megatron and transformers against shardlens; needs Python and network
# make bench       convert against cp and against a torch script; prints a table
# make scale       what size costs: models of 1B to 671B parameters as sparse files; needs Python
# make fixtures    write tests/fixtures/ again with real torch; needs Python
# make golden      write tests/tui/golden/ and docs/keys.md again; then read the difference
# make docs-test   run every command that README and docs show, and compare what it says
# make screenshots write screenshots/*.png again
# make docs        write docs/shardlens.1 again from the program
# make help        this list
#
# Variables: CC, CFLAGS, OUT (build folder), V=1 (show commands), WERROR=1, JOBS, PREFIX, LIBDIR, DESTDIR, PYTHON

VERSION  = 0.1.0
SOVERSION = 0

CC      ?= cc
# without tables that only C++ exceptions and in-process unwinders read: a tenth of the program
CFLAGS  ?= -O2 -g -fno-asynchronous-unwind-tables
OUT     ?= build
SMALL   ?= -Os -fno-builtin-snprintf     # else it becomes strcpy, which the program does not have (test_symbols.sh)
V       ?= 0
WERROR  ?= 0
PREFIX  ?= /usr/local
PYTHON  ?= python3
LIBDIR  ?= lib
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
WARN     = -std=c11 -ffp-contract=off -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           $(if $(filter 1,$(WERROR)),-Werror)
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$(OUT)/gen
LIB_PKGS  = libzip libcjson zlib libxxhash libdeflate yaml-0.1
PKGS      = $(LIB_PKGS) ncursesw
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LIB_LIBS   := $(shell pkg-config --libs $(LIB_PKGS) 2>/dev/null) -lpthread -lm
LDLIBS      = $(LIB_LIBS) $(shell pkg-config --libs ncursesw 2>/dev/null)
Q        = $(if $(filter 1,$(V)),,@)
SUBMAKE  = $(MAKE) --no-print-directory $(if $(findstring j,$(firstword -$(MAKEFLAGS))),,-j$(JOBS))

# ---- the program and the library: a room is a folder, see docs/architecture.md ----

LIB_ROOMS  = base format checkpoint model layout plan run api
PROG_ROOMS = cli tui
ROOMS      = $(LIB_ROOMS) $(PROG_ROOMS)
room_srcs  = $(filter-out src/cli/main.c src/cli/mpi.c,$(foreach r,$(1),$(sort $(wildcard src/$(r)/*.c))))
LIB_OBJS   = $(patsubst %.c,$(OUT)/%.o,$(call room_srcs,$(LIB_ROOMS))) $(OUT)/gen/families_data.o
PROG_OBJS  = $(patsubst %.c,$(OUT)/%.o,$(call room_srcs,$(PROG_ROOMS))) $(OUT)/src/cli/main.o
BIN        = $(OUT)/shardlens
LIB        = $(OUT)/libshardlens.a
SHLIB      = $(OUT)/libshardlens.so.$(VERSION)

all: $(BIN) $(LIB) $(SHLIB)

# relocations in their packed form, where the linker and the C library know it: a twelfth of the program
PACKED_RELOCS = -Wl,-z,pack-relative-relocs
PACKED := $(if $(shell echo 'int main(void) { return 0; }' | $(CC) $(PACKED_RELOCS) -x c -o /dev/null - 2>&1),,$(PACKED_RELOCS))
$(BIN): $(PROG_OBJS) $(LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(PACKED) -o $@ $(PROG_OBJS) $(LIB) $(LDLIBS)

# the same program with another main(); only it knows MPI, and nothing else needs it
MPI         = $(OUT)/mpi/shardlens
MPI_CFLAGS ?= $(shell pkg-config --cflags-only-I ompi-c 2>/dev/null)
MPI_LIBS   ?= $(shell pkg-config --libs ompi-c 2>/dev/null)
$(OUT)/src/cli/mpi.o: CPPFLAGS += $(patsubst -I%,-isystem %,$(MPI_CFLAGS))
$(MPI): $(PROG_OBJS) $(OUT)/src/cli/mpi.o $(LIB)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter-out %/main.o,$(PROG_OBJS)) $(OUT)/src/cli/mpi.o $(LIB) $(MPI_LIBS) $(LDLIBS)
mpi: $(MPI)

$(LIB): $(LIB_OBJS)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJS)

# what the header declares is exported, and nothing else
$(SHLIB): $(LIB_OBJS) include/shardlens/shardlens.h
	$(Q)sh src/api/exports.sh $(SOVERSION) < include/shardlens/shardlens.h > $(OUT)/gen/exports.map
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libshardlens.so.$(SOVERSION) \
	    -Wl,--version-script,$(OUT)/gen/exports.map -o $@ $(LIB_OBJS) $(LIB_LIBS)

# rooms that move no bytes are made small
SMALL_ROOMS = model api cli tui
$(OUT)/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(if $(filter $(SMALL_ROOMS:%=src/%/),$(<D)/),$(SMALL)) -fPIC $(WARN) $(CPPFLAGS) $(PKG_CFLAGS) -MMD -MP -c $< -o $@

# the family descriptions, compiled in as bytes
FAMILIES = $(sort $(wildcard src/model/families/*.json)) src/model/facts.json src/model/models.json src/model/megatron_args.json
$(OUT)/gen/families_data.c: $(FAMILIES)
$(OUT)/gen/families_%.c: src/model/embed.sh
	$(Q)mkdir -p $(@D)
	$(Q)sh src/model/embed.sh $(filter %.json,$^) > $@.part && mv $@.part $@
$(OUT)/gen/families_%.o: $(OUT)/gen/families_%.c
	$(Q)$(CC) $(CFLAGS) -fPIC $(WARN) $(CPPFLAGS) -c $< -o $@

# ---- tests: tests/ROOM/test_*.c, linked against that room and those above it; those of
# the command line run the program and need only base ----

upto = $(if $(filter $(1),$(firstword $(2))),$(firstword $(2)),$(firstword $(2)) $(call upto,$(1),$(wordlist 2,99,$(2))))
define ROOM_TESTS
TESTS_$(1) = $$(patsubst %.c,$(OUT)/%,$$(sort $$(wildcard tests/$(1)/test_*.c)))
OBJS_$(1)  = $$(patsubst %.c,$(OUT)/%.o,$$(call room_srcs,$(if $(filter tui,$(1)),$(LIB_ROOMS) tui,$(call upto,$(if $(filter cli,$(1)),base,$(1)),$(ROOMS))))) \
             $$(if $$(filter model layout plan run api cli tui,$(1)),$(OUT)/gen/families_data.o)
$$(TESTS_$(1)): $(OUT)/tests/$(1)/test_%: $(OUT)/tests/$(1)/test_%.o $$(OBJS_$(1)) $(if $(filter cli tui,$(1)),$(BIN))
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$< $$(OBJS_$(1)) $$(LDLIBS) -lcmocka $(if $(filter tui,$(1)),-lvterm -lutil)
test-$(1): $$(TESTS_$(1)) $$(wildcard tests/$(1)/test_*.sh)
	$$(Q)SHARDLENS=$$(BIN) OUT=$(OUT) sh tests/run.sh $$(filter tests/%.sh $(OUT)/tests/%,$$^)
endef
$(foreach r,$(ROOMS),$(eval $(call ROOM_TESTS,$(r))))
# the screens over an API that is made up: thousands of ranks, a million tensors, a run that stands still
MADE_UP_OBJS = $(patsubst %.c,$(OUT)/%.o,$(call room_srcs,base tui) tests/tui/made_up/api.c tests/tui/made_up/test_made_up.c)
$(OUT)/tests/tui/made_up/test_made_up: $(MADE_UP_OBJS)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
TESTS_tui += $(OUT)/tests/tui/made_up/test_made_up
test-tui: $(OUT)/tests/tui/made_up/test_made_up
# what a real program runs over in tests, never instrumented: a disk as slow as a test wants it, a file that changes
$(OUT)/tests/%.so: tests/%.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -O1 -std=c11 -D_GNU_SOURCE $(WARN) -shared -fPIC -o $@ $< -ldl
$(OUT)/tests/tui/test_run: $(OUT)/tests/tui/slow.so
$(OUT)/tests/cli/test_changes: $(OUT)/tests/cli/changing.so
# in these every allocation of ours can be made to fail: tests/base/memory.h
$(OUT)/tests/%/test_memory: private LDFLAGS += -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc

# every fuzz target, built without libFuzzer, replays its seeds and small changes of them; instead.c has what is wrapped
FUZZ_SRCS    = $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_REPLAYS = $(FUZZ_SRCS:tests/fuzz/fuzz_%.c=$(OUT)/tests/fuzz/replay_%)
FUZZ_COMMON  = $(patsubst %,$(OUT)/tests/fuzz/%.o,refused folder instead use wrap repair)
FUZZ_LINK    = -Wl,--wrap=sl_families_load -Wl,--wrap=sl_families_free -Wl,--wrap=nanosleep
FUZZ_GATHER  = $(OUT)/tests/fuzz/gather.o
# this target has its own table of families, which stands before the library's: see fuzz_family.c
$(OUT)/gen/families_few.c: src/model/families/base.json src/model/families/decoder.json
$(OUT)/tests/fuzz/replay_family $(OUT)/tests/fuzz/fuzz_family: $(OUT)/gen/families_few.o
$(FUZZ_REPLAYS): $(OUT)/tests/fuzz/replay_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/tests/fuzz/replay.o $(FUZZ_GATHER) $(FUZZ_COMMON) $(LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(FUZZ_LINK) -o $@ $(filter-out $(LIB),$^) $(LIB) $(LDLIBS)

SHELL_TESTS = $(sort $(wildcard tests/*/test_*.sh))
ALL_TESTS   = $(foreach r,$(ROOMS),$(TESTS_$(r))) $(FUZZ_REPLAYS) $(SHELL_TESTS)

check: $(BIN) $(SHLIB) $(ALL_TESTS) $(if $(MPI_LIBS),$(MPI)) $(OUT)/tests/fuzz/seeds
	$(Q)SHARDLENS=$(BIN) OUT=$(OUT) CC="$(CC)" sh tests/run.sh $(ALL_TESTS)

test: deps
	$(Q)$(SUBMAKE) check

SANITIZE = -O1 -g -fno-omit-frame-pointer
asan:
	$(Q)SHARDLENS_TEST_SECONDS=1200 $(SUBMAKE) OUT=build-asan CFLAGS="$(SANITIZE) -fsanitize=address,undefined -fno-sanitize-recover=undefined" check
tsan:
	$(Q)$(SUBMAKE) OUT=build-tsan CFLAGS="$(SANITIZE) -fsanitize=thread" tsan-run
tsan-run: $(TESTS_base) $(TESTS_run) $(TESTS_api)
	$(Q)TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan.supp SHARDLENS_TEST_SECONDS=1200 sh tests/run.sh $^

KILLS ?= 400
torture: $(OUT)/tests/cli/test_kill $(OUT)/tests/cli/test_promises $(OUT)/tests/cli/test_parts $(OUT)/tests/api/test_faults $(OUT)/tests/run/test_kill
	$(Q)SHARDLENS_KILLS=$(KILLS) SHARDLENS_TEST_SECONDS=7200 sh tests/run.sh $^

FUZZ_SECONDS ?= 600
FUZZ_BINS = $(FUZZ_SRCS:tests/fuzz/%.c=$(OUT)/tests/fuzz/%)
$(FUZZ_BINS): $(OUT)/tests/fuzz/fuzz_%: $(OUT)/tests/fuzz/fuzz_%.o $(FUZZ_COMMON) $(LIB)
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) $(FUZZ_LINK) -o $@ $(filter-out $(LIB),$^) $(LIB) $(LDLIBS)
$(OUT)/tests/fuzz/seeds: $(OUT)/tests/fuzz/seeds.o $(FUZZ_GATHER) $(FUZZ_COMMON) $(LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(FUZZ_LINK) -o $@ $^ $(LDLIBS)
fuzz-run: $(FUZZ_BINS) $(OUT)/tests/fuzz/seeds
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/run.sh $(FUZZ_BINS)
fuzz:
	$(Q)$(SUBMAKE) OUT=build-fuzz CC=clang FUZZ_SECONDS=$(FUZZ_SECONDS) \
	    CFLAGS="$(SANITIZE) -fsanitize=address,undefined -fno-sanitize-recover=undefined -fsanitize=fuzzer-no-link" fuzz-run
fuzz-smoke:
	$(Q)$(SUBMAKE) FUZZ_SECONDS=5 fuzz

# ---- analysis ----

lint:
	$(Q)sh tests/lint.sh
	$(Q)OUT=$(OUT) sh tests/analyse.sh

# ---- things to look at ----

demo: deps
	$(Q)$(SUBMAKE) all
	$(Q)SHARDLENS=$(BIN) sh tests/demo.sh $(OUT)

bench: $(BIN) $(OUT)/tests/bench/measure
	$(Q)SHARDLENS=$(BIN) MEASURE=$(OUT)/tests/bench/measure sh tests/bench/bench.sh
$(OUT)/tests/bench/measure: tests/bench/measure.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(WARN) $(CPPFLAGS) -o $@ $<

$(OUT)/tests/bench/hollow: $(OUT)/tests/bench/hollow.o $(LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
scale: $(BIN) $(OUT)/tests/bench/hollow
	$(Q)$(PYTHON) tests/bench/scale.py $(BIN) $(OUT)/tests/bench/hollow $(OUT)/scale

golden: $(OUT)/tests/tui/test_screens $(OUT)/tests/tui/made_up/test_made_up
	$(Q)SHARDLENS_GOLDEN=1 $(OUT)/tests/tui/test_screens
	$(Q)SHARDLENS_GOLDEN=1 $(OUT)/tests/tui/made_up/test_made_up
interop: $(BIN)
	$(Q)sh tests/interop/run.sh $(BIN)
fixtures:
	$(Q)cd tests/fixtures && $(PYTHON) make_fixtures.py
screenshots: $(BIN)
	$(Q)SHARDLENS=$(BIN) OUT=$(OUT) sh tests/tui/screenshots.sh
docs-test: $(BIN)
	$(Q)SHARDLENS=$(BIN) OUT=$(OUT) sh tests/product/test_docs_commands.sh
docs: $(BIN)
	$(Q)$(BIN) manual > docs/shardlens.1.part && mv docs/shardlens.1.part docs/shardlens.1

# ---- installing ----

deps:
	$(Q)sh .ci/deps.sh build

I = $(DESTDIR)$(PREFIX)
install: all
	install -d $(I)/bin $(I)/$(LIBDIR)/pkgconfig $(I)/include/shardlens $(I)/share/man/man1 \
	    $(I)/share/bash-completion/completions $(I)/share/zsh/site-functions $(I)/share/fish/vendor_completions.d
	install -m 755 $(BIN) $(I)/bin/shardlens
	install -m 644 $(LIB) $(I)/$(LIBDIR)/libshardlens.a
	install -m 755 $(SHLIB) $(I)/$(LIBDIR)/libshardlens.so.$(VERSION)
	ln -sf libshardlens.so.$(VERSION) $(I)/$(LIBDIR)/libshardlens.so.$(SOVERSION)
	ln -sf libshardlens.so.$(SOVERSION) $(I)/$(LIBDIR)/libshardlens.so
	install -m 644 include/shardlens/*.h $(I)/include/shardlens/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@PKGS@|$(LIB_PKGS)|' \
	    src/api/shardlens.pc.in > $(I)/$(LIBDIR)/pkgconfig/shardlens.pc
	install -m 644 docs/shardlens.1 $(I)/share/man/man1/
	$(BIN) completions bash > $(I)/share/bash-completion/completions/shardlens
	$(BIN) completions zsh > $(I)/share/zsh/site-functions/_shardlens
	$(BIN) completions fish > $(I)/share/fish/vendor_completions.d/shardlens.fish

uninstall:
	rm -f $(I)/bin/shardlens $(I)/$(LIBDIR)/libshardlens.a $(I)/$(LIBDIR)/libshardlens.so $(I)/$(LIBDIR)/libshardlens.so.$(SOVERSION) \
	    $(I)/$(LIBDIR)/libshardlens.so.$(VERSION) $(I)/$(LIBDIR)/pkgconfig/shardlens.pc $(I)/share/man/man1/shardlens.1 \
	    $(I)/share/bash-completion/completions/shardlens $(I)/share/zsh/site-functions/_shardlens \
	    $(I)/share/fish/vendor_completions.d/shardlens.fish
	rm -rf $(I)/include/shardlens

# ---- packages ----

# terminal descriptions are looked for where the distributions have them
static:
	$(Q)sh .ci/static.sh build-static/libs
	$(Q)$(SUBMAKE) OUT=build-static LDFLAGS=-static CFLAGS="-O2" CPPFLAGS="$(CPPFLAGS) -Ibuild-static/libs/include" \
	    LDLIBS="-Lbuild-static/libs/lib -lzip -lcjson -lz -lxxhash -ldeflate -lyaml -lncursesw -ltinfo -lpthread -lm" build-static/shardlens
	$(Q)strip build-static/shardlens

ARCHIVE = shardlens-$(VERSION)
dist:
	$(Q)git archive --prefix=$(ARCHIVE)/ HEAD | xz -9 > $(ARCHIVE).tar.xz.part && mv $(ARCHIVE).tar.xz.part $(ARCHIVE).tar.xz
	@echo $(ARCHIVE).tar.xz
deb:
	$(Q)sh .ci/deb.sh $(VERSION) build-deb

clean:
	rm -rf build build-static build-deb build-asan build-tsan build-fuzz build-gcc build-clang $(OUT)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile | sed '1,2d'

.PHONY: all mpi check test asan tsan tsan-run torture fuzz fuzz-run fuzz-smoke lint demo bench scale golden interop fixtures screenshots docs docs-test deps \
        install uninstall static dist deb clean help $(ROOMS:%=test-%)
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
