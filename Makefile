# mqredis: one Redis connection per host, shared over POSIX IPC.
#
# One non-recursive Makefile. A variant (SANITIZE=1, SANITIZE=thread, CC=clang)
# has a build folder of its own, so objects of two variants never mix.
# `make help` lists the targets.

CC       ?= cc
PREFIX   ?= /usr/local
SANITIZE ?=
WERROR   ?=

# ---- variant and its flags -------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
variant_cc := $(if $(findstring clang,$(CC)),clang,)

ifeq ($(SANITIZE),)
  BUILD   := build$(if $(variant_cc),/clang,)
  OPT     := -O2 -g -fstack-protector-strong -fstack-clash-protection \
             -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
else ifeq ($(SANITIZE),thread)
  BUILD   := build/tsan$(if $(variant_cc),-clang,)
  OPT     := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
  LDSAN   := -fsanitize=thread
else
  BUILD   := build/asan$(if $(variant_cc),-clang,)
  OPT     := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer \
             -fno-sanitize-recover=all
  LDSAN   := -fsanitize=address,undefined
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion \
        -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wcast-qual \
        -Wpointer-arith -Wformat=2 -Wundef -Wvla -Wswitch-enum \
        $(if $(WERROR),-Werror)

ALL_CFLAGS  = -std=c17 -D_GNU_SOURCE $(OPT) $(WARN) -fPIC -fvisibility=hidden \
              -I. -MMD -MP $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(LDSAN) $(LDFLAGS)
LIBS        = -lrt -pthread

# ---- sources ---------------------------------------------------------------

IPC_SRC := ipc/err.c ipc/resp.c ipc/resp_print.c

SERVER_SRC :=

PROGRAMS :=

ipc_obj    := $(IPC_SRC:%.c=$(BUILD)/obj/%.o)
server_obj := $(SERVER_SRC:%.c=$(BUILD)/obj/%.o)

# ---- targets ---------------------------------------------------------------

all: $(PROGRAMS:%=$(BUILD)/%) ## build every program

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/libipc.a: $(ipc_obj)
	$(AR) rcs $@ $^

clean: ## remove everything built
	rm -rf build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t16

.PHONY: all clean help
.DELETE_ON_ERROR:

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
