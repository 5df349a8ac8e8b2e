# SPDX-License-Identifier: MIT
# Builds and runs the fuzzers (GNU make, clang). "make fuzz" comes here; see README.md. SOURCE and
# BUILD are absolute paths.
here := $(dir $(lastword $(MAKEFILE_LIST)))
SOURCE ?= $(abspath $(here)/../..)
BUILD ?= $(SOURCE)/build/fuzz
PYTHON ?= /usr/bin/python3
CLANG ?= clang
LLVM_PROFDATA ?= llvm-profdata
LLVM_COV ?= llvm-cov
FUZZ_SECONDS ?= 60
FUZZ_JOBS ?= 2
targets := image check residue labels abandoned volumes order mapping decompress luks tables \
	reference selector name
images := image check residue labels abandoned order
FUZZ_TARGETS ?= $(targets)
packages := zlib libzstd libdeflate libgcrypt
core := $(filter-out %/cipher_none.c %_windows.c,$(shell cd $(SOURCE) && find core -name '*.c'))
names := $(shell cd $(SOURCE) && find tsk_qcow2/names -name '*.c')
fuzzed := $(core) $(names)
harness := $(addprefix tests/fuzz/,$(addsuffix .c,$(targets) support labelled traps views))
flags := -g -O1 -std=gnu11 -Wall -Wextra -Werror -MMD -I$(SOURCE)/core \
	-DPACKAGE_VERSION='"fuzz"' -DTSK_LIBRARY='""' -DHAVE_LIBDEFLATE=1 -DHAVE_LIBGCRYPT=1 \
	$(shell pkg-config --cflags $(packages))
libraries := $(shell pkg-config --libs $(packages)) -lpthread
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
coverage := -fprofile-instr-generate -fcoverage-mapping

.PHONY: fuzz fuzz-build fuzz-coverage fuzz-corpus
fuzz: fuzz-build
	$(PYTHON) $(SOURCE)/tests/fuzz/run.py --build $(BUILD) \
	  --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS) $(FUZZ_TARGETS)
fuzz-build: $(targets:%=$(BUILD)/fuzz-%)

# What the corpora reach of the reader, by regions, lines and branches.
fuzz-coverage: $(BUILD)/replay-coverage
	@$(PYTHON) $(SOURCE)/tests/fuzz/corpus.py unpack $(BUILD)/corpus
	@rm -f $(BUILD)/*.profraw
	@for target in $(targets); do \
	  LLVM_PROFILE_FILE=$(BUILD)/$$target.profraw \
	    find $(BUILD)/corpus/$$target -type f -exec $< $$target {} + \
	    > /dev/null 2>> $(BUILD)/coverage.log || exit 1; done
	@$(LLVM_PROFDATA) merge -o $(BUILD)/coverage.profdata $(BUILD)/*.profraw
	@$(LLVM_COV) report $< -instr-profile $(BUILD)/coverage.profdata $(COVERAGE_ARGS) \
	  $(core:%=$(SOURCE)/%)

# Pack what was found, as far as it reaches more than the corpus does.
fuzz-corpus: fuzz-build
	$(PYTHON) $(SOURCE)/tests/fuzz/corpus.py merge $(BUILD)

# ---- Rules ----------------------------------------------------------------------
# Only the reader's own branches guide the fuzzers.
fuzzed_objects := $(fuzzed:%.c=$(BUILD)/objects/%.o)
harness_objects := $(harness:%.c=$(BUILD)/objects/%.o)
fuzz_objects := $(fuzzed_objects) $(harness_objects)
$(fuzzed_objects): instrument := -fsanitize=fuzzer-no-link
$(fuzz_objects) $(BUILD)/objects/tests/fuzz/mutate.o: $(BUILD)/objects/%.o: $(SOURCE)/%.c
	@mkdir -p $(@D) && echo "  CC $*.c"
	@$(CLANG) $(flags) $(sanitizers) $(instrument) -c -o $@ $<
$(BUILD)/fuzz-%: $(SOURCE)/tests/fuzz/fuzzer.c $(fuzz_objects) $(BUILD)/objects/tests/fuzz/mutate.o
	@echo "  LD fuzz-$*"
	@$(CLANG) $(flags) $(sanitizers) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* -o $@ $< $(fuzz_objects) \
	  $(if $(filter $(images),$*),$(BUILD)/objects/tests/fuzz/mutate.o) \
	  $(libraries)

coverage_objects := $(patsubst %.c,$(BUILD)/coverage/%.o,$(fuzzed) $(harness) tests/fuzz/replay.c)
$(coverage_objects): $(BUILD)/coverage/%.o: $(SOURCE)/%.c
	@mkdir -p $(@D) && echo "  CC $*.c"
	@$(CLANG) $(flags) $(coverage) -c -o $@ $<
$(BUILD)/replay-coverage: $(coverage_objects)
	@$(CLANG) $(coverage) -o $@ $^ $(libraries)

-include $(fuzz_objects:.o=.d) $(coverage_objects:.o=.d)
