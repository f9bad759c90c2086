# Hayloft's build. `make` builds the release binaries into bin/; every target first installs what a fresh
# Debian 12 lacks. Objects go to out/MODE/; all code that is not a main lies in one archive, from which the
# linker takes what a binary uses.

.DEFAULT_GOAL := all
# One word for each thing that is made; `make V=1` shows the commands.
ifeq ($(V),)
.SILENT:
SAY = echo '  $@';
endif
SHELL := /bin/bash
MODE ?= release
CXX ?= g++
JOBS ?= $(shell nproc)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(JOBS)
endif

# The packages are asked for when the Makefile is read, so that no rule can run before them.
ifeq ($(filter clean down,$(MAKECMDGOALS)),)
GROUP := $(if $(filter test check soak fuzz lint bench bench-long bench-smoke sim mutants tidy,$(MAKECMDGOALS)),test,build)
ifneq ($(shell .ci/install $(GROUP) >&2 && echo ok),ok)
$(error could not install the packages; see above)
endif
endif

WARN := -Wall -Wextra -Wshadow -Wconversion -Werror
FLAGS_release := -O2 -g1
# A null pointer ends a process in any case: its check and that of vptr cost a third of the build.
FLAGS_asan := -O1 -g1 -fsanitize=address,undefined -fno-sanitize=null,vptr -fno-sanitize-recover=all \
  -DHAYLOFT_FAILPOINTS
# Fuzzers: clang 14 (g++ has no libFuzzer), with the line counts of llvm-cov.
FLAGS_fuzz := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
  -fprofile-instr-generate -fcoverage-mapping
FLAGS_tsan := -O1 -g1 -fsanitize=thread -DHAYLOFT_FAILPOINTS
ARCH := -msse4.2 -mpopcnt
OUT := out/$(MODE)
CPPFLAGS := -I. -Iclient/include -Iout/gen
CXXFLAGS := -std=c++20 $(ARCH) $(FLAGS_$(MODE))
LDFLAGS := $(FLAGS_$(MODE))
# Most objects go into the SDK's shared library too. On x86-64, where executables are position-independent
# anyhow, that costs them nothing as long as the symbols are hidden.
CXXFLAGS += $(if $(filter release,$(MODE)),-fPIC -fvisibility=hidden -fvisibility-inlines-hidden)
# A third of each compilation. A compiler cache could not tell what is in it. g++ 12 forgets in it which
# warnings libstdc++ has switched off for itself: builds by a cache judge those.
PRECOMPILED := $(if $(filter-out fuzz,$(MODE)),$(if $(findstring ccache,$(CXX)),,$(OUT)/precompiled.h.gch))
ifneq ($(PRECOMPILED),)
WARN += -Wno-array-bounds -Wno-stringop-overread -Wno-stringop-overflow -Wno-restrict -Wno-maybe-uninitialized
endif
LIBS := -levent_core -levent_extra -levent_pthreads -lleveldb -lssl -lcrypto -lzstd -lisal -lprotobuf -lspdlog -lfmt -lpthread \
  -Wl,--push-state,--as-needed -lcurl -Wl,--pop-state

PROTOS := $(wildcard common/proto/*.proto)
GEN_H := $(PROTOS:%.proto=out/gen/%.pb.h)
GEN_O := $(PROTOS:%.proto=$(OUT)/gen/%.pb.o)

FOLDERS := common common/io common/ha nameserver dataserver dataserver/dsp directory cache client client/cli gateway
SOURCES := $(wildcard $(FOLDERS:%=%/*.cc))
MAINS := $(wildcard $(FOLDERS:%=%/*_main.cc))
LIB_O := $(patsubst %.cc,$(OUT)/%.o,$(filter-out $(MAINS),$(SOURCES))) $(GEN_O)
ifeq ($(MODE),fuzz)
# g++ judges the warnings; and no decoder lies behind these heavy headers.
WARN :=
LIB_O := $(filter-out $(OUT)/common/io/options.o $(OUT)/common/io/log_sink.o,$(LIB_O))
endif
LIB := $(OUT)/libhayloft_parts.a

# Binary name for each main: nameserver/nameserver_main.cc -> hayloft-nameserver; the command is `hayloft`.
BIN_NAME = $(patsubst hayloft-hayloft,hayloft,hayloft-$(patsubst %_main,%,$(basename $(notdir $(1)))))
BINARIES := $(foreach m,$(MAINS),$(OUT)/bin/$(call BIN_NAME,$(m)))

# Runs only where the processor has these instructions.
$(OUT)/common/sha_pair.o: CXXFLAGS += -msha

.PHONY: all binaries clean
all: binaries
	@mkdir -p bin && cp -fu $(OUT)/bin/* bin/
binaries: $(BINARIES)

define BINARY_RULE
$(OUT)/bin/$(call BIN_NAME,$(1)): $(OUT)/$(basename $(1)).o $(LIB)
	@mkdir -p $$(@D)
	$$(SAY)$$(CXX) $$(LDFLAGS) -o $$@ $$< $(LIB) $$(LIBS)
endef
$(foreach m,$(MAINS),$(eval $(call BINARY_RULE,$(m))))

$(LIB): $(LIB_O)
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

out/gen/%.pb.h: %.proto
	@mkdir -p $(@D)
	$(SAY)protoc --cpp_out=out/gen $<

# Generated code is not held to our warnings.
$(OUT)/gen/%.pb.o: out/gen/%.pb.h
	@mkdir -p $(@D)
	$(SAY)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c out/gen/$*.pb.cc -o $@

$(OUT)/%.o: %.cc $(PRECOMPILED) | $(GEN_H)
	@mkdir -p $(@D)
	$(SAY)$(CXX) $(CPPFLAGS) $(CXXFLAGS) $(WARN) $(PRECOMPILED:%.gch=-include %) -MMD -MP -c $< -o $@

# The header itself lies beside it for files whose flags differ: to those it is an include as any other.
$(OUT)/precompiled.h.gch: common/precompiled.h $(GEN_H)
	@mkdir -p $(@D)
	cp $< $(@:.gch=)
	$(SAY)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -w -x c++-header $< -o $@

# What is compiled into them besides code.
$(OUT)/gateway/pages.o: $(wildcard gateway/pages/*)

clean:
	rm -rf out bin

# --- tests ------------------------------------------------------------------------------------------
SIM_O := $(patsubst %.cc,$(OUT)/%.o,$(filter-out %_main.cc,$(wildcard tests/sim/*.cc)))
UNIT_O := $(patsubst %.cc,$(OUT)/%.o,$(wildcard tests/unit/*.cc))
$(OUT)/unit: $(UNIT_O) $(SIM_O) $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS) -lhttp_parser -lrapidcheck

# --- simulator: `make sim SEEDS=2000 FROM=1`, `make mutants`; a failure prints how to replay it ------
SEEDS ?= 200
FROM ?= 1
$(OUT)/sim_test: $(OUT)/tests/sim/sim_main.o $(SIM_O) $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)
.PHONY: sim mutants
sim: $(OUT)/sim_test
	$(OUT)/sim_test --seeds=$(SEEDS) --from=$(FROM) --jobs=$(JOBS)
mutants: $(OUT)/sim_test
	$(OUT)/sim_test --mutants --jobs=$(JOBS)

# --- benchmarks -------------------------------------------------------------------------------------
# make bench [BENCH=rpc]: each bench/NAME_bench.cc says what it isolates and in which unit. Then
# each bench/NAME_bench.py: what images cost the processes of whole clusters, some minutes each.
BENCH ?=
BENCHES := $(patsubst %.cc,$(OUT)/%,$(wildcard bench/$(BENCH)*_bench.cc))
SCRIPT_BENCHES := $(wildcard bench/$(BENCH)*_bench.py)
SCRIPT_BENCHES_NEED := $(if $(SCRIPT_BENCHES),binaries $(OUT)/bench/cluster_load $(OUT)/bench/bare_http \
  $(OUT)/bench/needle_places)
.PHONY: bench bench-long bench-smoke
bench: $(BENCHES) $(SCRIPT_BENCHES_NEED)
	@for each in $(BENCHES) $(SCRIPT_BENCHES); do $$each || exit 1; done
# For figures to be published: each ten times for 2 s, then median and spread.
bench-long: $(BENCHES)
	@for each in $(BENCHES); do $$each --benchmark_min_time=2 --benchmark_repetitions=10 \
	  --benchmark_report_aggregates_only || exit 1; done
# Each benchmark once and small, so that none rots.
bench-smoke: $(BENCHES) $(SCRIPT_BENCHES_NEED)
	@for each in $(BENCHES); do $$each --benchmark_min_time=0 > $$each.log || exit 1; done
	@for each in $(SCRIPT_BENCHES); do $$each --smoke > $(OUT)/$$each.log || exit 1; done
$(OUT)/bench/%_bench: $(OUT)/bench/%_bench.o $(SIM_O) $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ -lbenchmark $(LIBS)
$(OUT)/bench/cache_hits_bench: $(OUT)/bench/cache_traffic.o
# A disk full of images without their bytes, for measuring starts and memory.
$(OUT)/bench/make_disk: $(OUT)/bench/make_disk.o $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)
# Where the needles of such a disk lie.
$(OUT)/bench/needle_places: $(OUT)/bench/needle_places.o $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)

$(OUT)/bench/bare_http: $(OUT)/bench/bare_http.o
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^
# Load on a running cluster, which the scripts drive.
$(OUT)/bench/cluster_load: $(OUT)/bench/cluster_load.o $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)

# Reads through the SDK for the tests of whole clusters.
$(OUT)/sdk_reader: $(OUT)/tests/cluster/sdk_reader.o $(LIB)
	$(SAY)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)

# --- fuzzing ----------------------------------------------------------------------------------------
# make fuzz [FUZZ_RUNS=1000000] [FUZZ_TARGET=frame]: every decoder, each tests/fuzz/NAME_fuzz.cc.
FUZZ_RUNS ?= 1000000
FUZZ_TARGET ?=
FUZZ_CXX ?= clang++-14
FUZZ_BINARIES := $(patsubst tests/fuzz/%.cc,$(OUT)/bin/%,$(wildcard tests/fuzz/*_fuzz.cc))
.PHONY: fuzz fuzz-binaries fuzz-syntax
fuzz:
	$(MAKE) MODE=fuzz CXX="$(FUZZ_CXX)" fuzz-binaries
	tests/fuzz/run.py --out out/fuzz --runs $(FUZZ_RUNS) --target "$(FUZZ_TARGET)" --jobs $(JOBS)
fuzz-binaries: $(FUZZ_BINARIES)
# Whether the targets still fit what they call; `make test` has no time to build them.
fuzz-syntax: $(GEN_H)
	@printf '%s\n' tests/fuzz/*_fuzz.cc | \
	  xargs -P $(JOBS) -I{} $(CXX) $(CPPFLAGS) $(CXXFLAGS) $(WARN) -fsyntax-only {}
FUZZ_SIM_O := $(OUT)/tests/sim/sim_device.o $(OUT)/tests/sim/mem_kv.o
out/fuzz/bin/parser_differential_fuzz: LIBS += -lhttp_parser
out/fuzz/bin/%: out/fuzz/tests/fuzz/%.o $(FUZZ_SIM_O) $(LIB)
	@mkdir -p $(@D)
	$(SAY)$(CXX) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

.PRECIOUS: out/gen/%.pb.h out/fuzz/tests/fuzz/%.o
-include $(shell find $(OUT) -name '*.d' 2>/dev/null)

# --- checks -----------------------------------------------------------------------------------------
# `make check` after a build: <= 2 min; tests/cluster/commands_test.py alone takes 87 s on busy cores
# and is therefore left to `make test`. That, from a clean clone: <= 18 min on 2 cores. `make soak
# [PART=name]`: every figure at its full size, resumable; out/soak.json.
.PHONY: lint tidy check test soak
lint:
	@tests/lint/lint.py
	@tests/lint/lint_test.py
	@tests/lint/run_test.py

# Slow (a compilation a file), therefore apart from lint. TIDY="a.cc b.cc" checks only these.
TIDY ?= $(SOURCES)
tidy: $(GEN_H)
	@printf '%s\n' $(TIDY) | xargs -P $(JOBS) -I{} clang-tidy-14 --quiet {} -- $(CPPFLAGS) $(CXXFLAGS)

check:
	tests/run.py check
test:
	tests/run.py test
soak:
	.ci/install images
	tests/cluster/soak.py $(PART)

# --- a cluster on this machine; installing ----------------------------------------------------------
.PHONY: up down install
up: all
	bin/hayloft cluster up --dir run --samples
down:
	@if [ -x bin/hayloft ]; then bin/hayloft cluster down --dir run; fi

# --- the SDK: libhayloft, of the objects that the binaries are made of too -----------------------------
# The shared library shows what its headers mark; the static one is linked into one object, in which all
# else is made local, so that none of our names meets one of the program's.
SDK_VERSION := $(shell sed -n 's/.*kVersion\[\] = "\(.*\)".*/\1/p' common/version.h)
SDK_SONAME := libhayloft.so.0
SDK_SO := $(OUT)/sdk/libhayloft.so.$(SDK_VERSION)
SDK_A := $(OUT)/sdk/libhayloft.a
SDK_O := $(patsubst %.cc,$(OUT)/%.o,$(wildcard client/sdk_*.cc))
SDK_LIBS := -levent_core -lcrypto -lzstd -lisal -lprotobuf -lpthread
.PHONY: sdk
sdk: $(SDK_SO) $(SDK_A)
$(SDK_SO): $(SDK_O) $(LIB) client/sdk.map
	@mkdir -p $(@D)
	$(SAY)$(CXX) $(LDFLAGS) -shared -Wl,-soname,$(SDK_SONAME) -Wl,--version-script=client/sdk.map -Wl,--as-needed \
	  -Wl,-z,defs -o $@ $(SDK_O) $(LIB) $(SDK_LIBS)
$(SDK_A): $(SDK_O) $(LIB)
	@mkdir -p $(@D)
	@rm -f $@
	ld -r --force-group-allocation -o $(@:.a=.o) $(SDK_O) $(LIB)
	objcopy --localize-hidden $(@:.a=.o)
	ar rcs $@ $(@:.a=.o)

PREFIX ?= /usr/local
TO = $(DESTDIR)$(PREFIX)
install: all sdk
	install -d $(TO)/bin $(TO)/share/doc/hayloft $(TO)/include/hayloft $(TO)/lib/pkgconfig $(TO)/lib/cmake/hayloft \
	  $(TO)/lib/systemd/system
	install -m 755 bin/* $(TO)/bin
	install -d $(TO)/share/doc/hayloft/fronts/trafficserver
	install -m 644 README.md CHANGELOG.md LICENSE docs/*.md docs/*.svg docs/openapi.json $(TO)/share/doc/hayloft
	install -m 644 docs/fronts/*.* $(TO)/share/doc/hayloft/fronts
	install -m 644 docs/fronts/trafficserver/* $(TO)/share/doc/hayloft/fronts/trafficserver
	install -m 644 client/include/hayloft/*.h $(TO)/include/hayloft
	install -m 644 $(SDK_A) $(TO)/lib
	install -m 755 $(SDK_SO) $(TO)/lib
	ln -sf $(notdir $(SDK_SO)) $(TO)/lib/$(SDK_SONAME)
	ln -sf $(SDK_SONAME) $(TO)/lib/libhayloft.so
	for unit in packaging/systemd/*.service.in; do sed 's|@BINDIR@|$(PREFIX)/bin|' $$unit \
	  > $(TO)/lib/systemd/system/$$(basename $$unit .in) || exit 1; done
	sed 's/@VERSION@/$(SDK_VERSION)/; s/@PRIVATE@/$(SDK_LIBS)/' client/packaging/hayloft.pc.in > $(TO)/lib/pkgconfig/hayloft.pc
	install -m 644 client/packaging/hayloftConfig.cmake $(TO)/lib/cmake/hayloft
	sed 's/@VERSION@/$(SDK_VERSION)/' client/packaging/hayloftConfigVersion.cmake.in \
	  > $(TO)/lib/cmake/hayloft/hayloftConfigVersion.cmake
