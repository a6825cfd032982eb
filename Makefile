# shardlens
#
# make demo      install what is missing, build, write a sample checkpoint, open the TUI on it
# make test      install what is missing, build, run all tests; ends in "N passed, N failed"
# make           build/shardlens and build/libshardlens.a
# make test-ROOM run the tests of one room: base format checkpoint model layout plan run api cli tui
# make help      this list

CC      ?= cc
CFLAGS  ?= -O2 -g
OUT     ?= build
V       ?= 0
WARN     = -std=c11 -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$(OUT)/gen
ROOMS    = base format checkpoint model layout plan run api cli tui
PKGS     = libzip libcjson zlib libxxhash libdeflate yaml-0.1 ncursesw
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LDLIBS   = $(PKG_LIBS) -lpthread -lm
Q        = $(if $(filter 1,$(V)),,@)

ROOM_SRCS = $(filter-out src/cli/main.c,$(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/*.c))))
ROOM_OBJS = $(ROOM_SRCS:%.c=$(OUT)/%.o) $(OUT)/gen/families_data.o
MAIN_OBJ  = $(OUT)/src/cli/main.o
LIB       = $(OUT)/libshardlens.a
BIN       = $(OUT)/shardlens

all: $(BIN)

$(BIN): $(MAIN_OBJ) $(LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(MAIN_OBJ) $(LIB) $(LDLIBS)

$(LIB): $(ROOM_OBJS)
	$(Q)rm -f $@; ar rcs $@ $(ROOM_OBJS)

$(OUT)/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(WARN) $(CPPFLAGS) $(PKG_CFLAGS) -MMD -MP -c $< -o $@

# the family descriptions, compiled in as bytes
FAMILIES = $(sort $(wildcard src/model/families/*.json))
$(OUT)/gen/families_data.c: $(FAMILIES) src/model/embed.sh
	$(Q)mkdir -p $(@D)
	$(Q)sh src/model/embed.sh $(FAMILIES) > $@.part && mv $@.part $@
$(OUT)/gen/families_data.o: $(OUT)/gen/families_data.c
	$(Q)$(CC) $(CFLAGS) $(WARN) $(CPPFLAGS) -c $< -o $@

# tests: tests/ROOM/test_*.c, linked against that room and those above it
upto = $(if $(filter $(1),$(firstword $(2))),$(firstword $(2)),$(firstword $(2)) $(call upto,$(1),$(wordlist 2,99,$(2))))
define ROOM_TESTS
TESTS_$(1) = $$(patsubst %.c,$(OUT)/%,$$(sort $$(wildcard tests/$(1)/test_*.c)))
OBJS_$(1)  = $$(patsubst %.c,$(OUT)/%.o,$$(filter-out src/cli/main.c,$$(foreach r,$(call upto,$(1),$(ROOMS)),$$(sort $$(wildcard src/$$(r)/*.c))))) \
             $$(if $$(filter model layout plan run api cli tui,$(1)),$(OUT)/gen/families_data.o)
$$(TESTS_$(1)): $(OUT)/tests/$(1)/test_%: $(OUT)/tests/$(1)/test_%.o $$(OBJS_$(1)) $(if $(filter cli tui,$(1)),$(BIN))
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$< $$(OBJS_$(1)) $$(LDLIBS) -lcmocka $(if $(filter tui,$(1)),-lvterm -lutil)
test-$(1): $$(TESTS_$(1))
	$$(Q)sh tests/run.sh $$(TESTS_$(1))
endef
$(foreach r,$(ROOMS),$(eval $(call ROOM_TESTS,$(r))))
ALL_TESTS = $(foreach r,$(ROOMS),$(TESTS_$(r)))

check: $(BIN) $(ALL_TESTS)
	$(Q)sh tests/run.sh $(ALL_TESTS)

clean:
	rm -rf $(OUT)

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '3,/^$$/p'

.PHONY: all check clean help $(ROOMS:%=test-%)
.SECONDARY:
-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
