# The front door. Everything is built by meson in build/; these are the few commands a person needs.
#
#   make            build Bailey: the program is build/bailey
#   make demo       install what is needed, build, and run real programs in it
#   make check      install what is needed, build, and run all tests
#   make bench      measure against native and against installed peers
#   make install    to PREFIX (default /usr/local); make uninstall takes it away again

PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build

.PHONY: all demo check bench install uninstall clean format dependencies dependencies-test dependencies-bench

all: dependencies $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@ln -sfn cli/bailey $(BUILD)/bailey

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix=$(PREFIX) >/dev/null

dependencies:
	@tools/install-dependencies.sh build
dependencies-test:
	@tools/install-dependencies.sh test
dependencies-bench:
	@tools/install-dependencies.sh bench

demo: all
	@tests/demo.sh $(BUILD)/bailey

# The tests need packages that the program does not, so only here are they asked for.
check: dependencies-test $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=enabled
	@$(MAKE) --no-print-directory all
	@python3 tests/run.py --build $(BUILD)

bench: dependencies-bench all
	@python3 bench/run.py --build $(BUILD)

install: all
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@ninja -C $(BUILD) >/dev/null
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet

uninstall:
	@ninja -C $(BUILD) uninstall

clean:
	@rm -rf $(BUILD)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
