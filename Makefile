# mqredis: one Redis connection per host, shared over POSIX IPC.
#
# One non-recursive Makefile. A variant (SANITIZE=1, SANITIZE=thread, COVERAGE=1,
# CC=clang) has a build folder of its own, so objects of two variants never mix.
# `make help` lists the targets.

# Whatever target comes first below.
.DEFAULT_GOAL := all

# On all processors, unless -j says otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

CC       ?= cc
PREFIX   ?= /usr/local
OBJCOPY  ?= objcopy
VERSION  := $(shell sed -n 's/.*PROJECT_VERSION "\(.*\)"/\1/p' ipc/version.h)
LIBEDIT  ?= $(shell pkg-config --libs libedit 2>/dev/null)
SANITIZE ?=
COVERAGE ?=
WERROR   ?=

# ---- variant and its flags -------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
variant_cc := $(if $(findstring clang,$(CC)),clang,)

ifneq ($(COVERAGE),)
  BUILD   := build/cov
  OPT     := -O0 -g --coverage -fprofile-update=prefer-atomic \
             -include tests/coverage.h
  LDSAN   := --coverage
else ifeq ($(SANITIZE),)
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

IPC_SRC := ipc/broadcast.c ipc/err.c ipc/printable.c ipc/sweep.c ipc/random.c \
           ipc/channel.c ipc/channel_files.c ipc/channel_owner.c \
           ipc/message.c ipc/payload.c ipc/resp.c ipc/resp_command.c \
           ipc/resp_print.c ipc/quote.c ipc/mpsc.c ipc/oneshot.c \
           ipc/histogram.c ipc/watch.c ipc/status.c ipc/status_clients.c \
           ipc/status_nodes.c ipc/channel_list.c

# Command lines that are tables of rows.
ROWS_SRC := ipc/rows.c

SERVER_SRC := server/admin.c server/blocking.c server/buffer.c server/client.c \
              server/clients.c server/command.c server/config.c \
              server/connection.c server/db.c server/dict.c server/glob.c \
              server/heap.c server/introspect.c server/keys.c server/list.c \
              server/listen.c server/lists.c server/mem.c server/number.c \
              server/options.c server/protocol.c server/pubsub.c server/reply.c \
              server/server.c server/strings.c server/table.c \
              server/transactions.c

# TLS where OpenSSL's headers are; OPENSSL= (empty) leaves it out.
OPENSSL ?= $(shell pkg-config --exists openssl 2>/dev/null && echo yes)
# Where a command's keys are, and commands in parts: beside the manager, its suites and fuzz targets.
keyspec_src := manager/keyspec.c manager/keyspec_learn.c \
               manager/keyspec_look.c manager/keyspec_table.c
scatter_src := manager/scatter.c manager/gather.c manager/gather_result.c
MANAGER_SRC := manager/answer.c manager/buffer.c manager/conn.c \
               manager/check.c manager/control.c manager/described.c \
               manager/framed.c manager/notify.c \
               $(keyspec_src) $(scatter_src) \
               manager/patience.c manager/segments.c manager/setup.c \
               manager/slot.c manager/step.c manager/succession.c \
               manager/takeover.c manager/taker.c manager/target.c \
               manager/slotmap.c manager/cluster.c manager/cluster_batch.c \
               manager/cluster_refresh.c manager/errand.c \
               manager/errand_reply.c manager/errand_order.c \
               manager/lane_choice.c \
               manager/nodes.c manager/node_rows.c manager/seeds.c \
               manager/fanout.c \
               manager/turnstile.c \
               manager/guardian.c manager/intake.c manager/lanes.c manager/log.c \
               manager/login.c manager/lookup.c manager/loop.c manager/main.c \
               manager/manager.c manager/options.c manager/pipeline.c \
               manager/policy.c manager/policy_categories.c \
               manager/policy_learn.c manager/policy_table.c \
               manager/pubsub.c manager/pubsub_members.c \
               manager/pubsub_topics.c manager/pubsub_upstream.c \
               manager/pushes.c manager/readers.c manager/readers_write.c \
               manager/routes.c \
               manager/sentinel.c manager/sentinel_listener.c \
               manager/sentinel_peers.c manager/sentinel_reply.c \
               manager/sentinel_wire.c manager/stream.c \
               manager/subscriber.c manager/topics.c \
               manager/uri.c manager/walk.c $(ROWS_SRC)
ifneq ($(OPENSSL),)
MANAGER_SRC += manager/tls.c
MANAGER_LIBS := -lssl -lcrypto
else
MANAGER_SRC += manager/tls_none.c
MANAGER_LIBS :=
endif

MQSTAT_SRC := tools/arguments.c tools/mqstat/main.c tools/mqstat/text.c tools/mqstat/procfs.c \
              tools/mqstat/procqueue.c \
              tools/mqstat/sample.c tools/mqstat/show.c tools/mqstat/queues.c \
              tools/mqstat/live.c tools/mqstat/live_draw.c \
              tools/mqstat/live_tables.c \
              tools/mqstat/piped.c tools/mqstat/samples.c \
              tools/mqstat/doctor.c tools/mqstat/doctor_budget.c \
              tools/mqstat/leftovers.c tools/mqstat/health.c \
              tools/mqstat/control.c tools/mqstat/json.c \
              tools/mqstat/prometheus.c tools/mqstat/listen.c \
              tools/mqstat/nodes.c tools/mqstat/doctor_nodes.c

LIB_SRC := workers/handle.c workers/request.c workers/flight.c workers/landing.c \
           workers/submit.c workers/wait.c workers/call.c workers/reply.c workers/spill.c \
           workers/format.c workers/fork.c workers/stream.c \
           workers/stream_read.c

# The worker proper, and the same with line editing where libedit is there.
WORKER_SRC := workers/main.c workers/options.c workers/output.c \
              workers/input.c workers/batch.c workers/prompt.c \
              workers/subscribe.c

# Redis clients of any language, on the library's public calls.
GATEWAY_SRC := $(patsubst %,workers/gateway/%.c,main options gateway listen \
               client parse buffer commands dispatch forward translate \
               session transaction catalog topics subscriber \
               report) $(ROWS_SRC)

# What starts and ends the programs: the main job and the benchmark.
STAGE_SRC := tools/process.c tools/stage.c tools/arguments.c
RUN_SRC   := tools/run/main.c tools/run/load.c $(STAGE_SRC)
BENCH_SRC := tools/bench/main.c tools/bench/options.c tools/bench/suite.c \
             tools/bench/parties.c tools/bench/load.c tools/bench/limit.c \
             tools/bench/client_channel.c tools/bench/client_hiredis.c \
             tools/bench/short.c tools/bench/figures.c \
             tools/bench/median.c tools/bench/report.c \
             tools/bench/json.c tools/bench/svg.c tools/bench/machine.c \
             $(STAGE_SRC)

# The benchmark compares with hiredis where that is; HIREDIS= leaves it out.
HIREDIS ?= $(shell pkg-config --libs hiredis 2>/dev/null)

PROGRAMS :=
PROGRAMS += mqredis-worker libmqredis.a libmqredis.so.1
PROGRAMS += $(if $(LIBEDIT),mqredis-prompt)
PROGRAMS += mqredis-manager mqredis-gateway
PROGRAMS += mqredis-server mqstat
PROGRAMS += mqredis-run mqredis-bench mqredis-bench-watching \
            mqredis-bench-cluster
PROGRAMS += $(if $(HIREDIS),mqredis-bench-get mqredis-bench-large)

# Each suite is tests/NAME.c, linked with libipc.a and tests/support_run.c. What
# else a suite needs:
#   EXTRA_NAME := objects or archives of ours, e.g. $(BUILD)/obj/server/db.o
TESTS := check_quote check_resp check_resp_command check_resp_print \
         check_resp_print_cli check_status_clients check_status_nodes
EXTRA_check_resp_print := $(BUILD)/obj/tests/print_cases.o
EXTRA_check_resp_print_cli := $(BUILD)/obj/tests/print_cases.o

# tests/support.c and the suites of ipc/ that need it.
support := $(BUILD)/obj/tests/support.o
support_tests := check_channel check_channel_files check_channel_lock \
                 check_mpsc_queue check_oneshot check_oneshot_users \
                 check_message check_watch check_status check_payload
TESTS += $(support_tests)
$(foreach t,$(support_tests),$(eval EXTRA_$(t) := $(support)))

mpsc_tests := check_mpsc check_mpsc_closed
TESTS += $(mpsc_tests)
$(foreach t,$(mpsc_tests),$(eval EXTRA_$(t) := $(support) \
    $(BUILD)/obj/tests/mpsc_stage.o))

# What judges commands and reads URIs stands alone.
walk_src := manager/walk.c manager/described.c
policy_src := manager/policy.c manager/policy_table.c \
              manager/policy_categories.c manager/policy_learn.c $(walk_src)
policy_obj := $(policy_src:%.c=$(BUILD)/obj/%.o) \
              $(BUILD)/obj/tests/support_policy.o
TESTS += check_uri
policy_tests := check_policy check_policy_changes check_policy_server \
                check_policy_step
TESTS += $(policy_tests)
$(foreach t,$(policy_tests),$(eval EXTRA_$(t) := $(policy_obj) $(support) \
    $(BUILD)/obj/tests/support_redis.o))
EXTRA_check_uri := $(BUILD)/obj/manager/uri.o
TESTS += check_sentinel_reply
EXTRA_check_sentinel_reply := $(patsubst %,$(BUILD)/obj/manager/%.o,\
    sentinel_reply uri)

TESTS += check_slot check_slotmap check_keyspec check_keyspec_server \
         check_scatter
walk_obj := $(walk_src:%.c=$(BUILD)/obj/%.o)
keyspec_obj := $(patsubst %.c,$(BUILD)/obj/%.o,$(keyspec_src) \
               manager/framed.c manager/slot.c) \
               $(BUILD)/obj/tests/support_keyspec.o
TESTS += check_turnstile
EXTRA_check_turnstile := $(BUILD)/obj/manager/turnstile.o
EXTRA_check_slot := $(BUILD)/obj/manager/slot.o
EXTRA_check_slotmap := $(BUILD)/obj/manager/slotmap.o $(walk_obj)
EXTRA_check_keyspec := $(keyspec_obj) $(walk_obj)
redis_cluster_obj := $(patsubst %,$(BUILD)/obj/tests/%.o,redis_cluster \
    redis_cluster_slots redis_cluster_view)
EXTRA_check_keyspec_server := $(keyspec_obj) $(policy_obj) $(support) \
    $(redis_cluster_obj) $(BUILD)/obj/tests/support_redis.o
EXTRA_check_scatter := $(keyspec_obj) $(walk_obj) $(scatter_src:%.c=$(BUILD)/obj/%.o)

TESTS += check_subscriber check_pushes
EXTRA_check_subscriber := $(BUILD)/obj/manager/subscriber.o \
                          $(BUILD)/obj/manager/loop.o
EXTRA_check_pushes := $(BUILD)/obj/manager/pushes.o $(BUILD)/obj/manager/topics.o \
                      $(BUILD)/obj/manager/buffer.o $(support)

TESTS += check_rows
EXTRA_check_rows := $(ROWS_SRC:%.c=$(BUILD)/obj/%.o)

TESTS += check_run check_bench
EXTRA_check_run := $(support) $(BUILD)/obj/tests/support_redis.o
EXTRA_check_bench := $(support) $(BUILD)/obj/tests/json.o

# The server's suites have it in their own process; the others run the program.
TESTS += check_server check_server_data check_server_diff check_server_limits \
         check_server_program
EXTRA_check_server := $(support) $(BUILD)/libserver.a
EXTRA_check_server_limits := $(EXTRA_check_server)
EXTRA_check_server_data := $(BUILD)/libserver.a
EXTRA_check_server_program := $(support)
EXTRA_check_server_diff := $(BUILD)/obj/tests/differential.o $(support) \
                           $(BUILD)/obj/tests/support_redis.o \
                           $(BUILD)/libserver.a

# The manager's parts, with requesters in the same process.
desk_obj := $(support) $(BUILD)/obj/tests/support_manager.o \
            $(patsubst %,$(BUILD)/obj/manager/%.o,pipeline readers readers_write answer \
            buffer loop lanes segments taker)
TESTS += check_patience
EXTRA_check_patience := $(BUILD)/obj/manager/patience.o
pipeline_tests := check_pipeline check_pipeline_breaks
TESTS += $(pipeline_tests) check_readers
$(foreach t,$(pipeline_tests),$(eval EXTRA_$(t) := $(desk_obj) \
    $(BUILD)/obj/tests/pipeline_scene.o))
EXTRA_check_readers := $(desk_obj)

# The programs together, each suite against both servers.
e2e_obj := $(support) $(patsubst %,$(BUILD)/obj/tests/%.o,support_redis e2e \
           e2e_client e2e_scene proxy)
e2e_tests := check_e2e_channel check_e2e_lies check_e2e_worker check_e2e_redis \
             check_e2e_pool check_e2e_idle check_hotpath check_takeover
TESTS += $(e2e_tests)
$(foreach t,$(e2e_tests),$(eval EXTRA_$(t) := $(e2e_obj)))
TESTS += check_mqstat_e2e
EXTRA_check_mqstat_e2e := $(e2e_obj) $(BUILD)/obj/tests/json.o
ops_tests := check_ops check_full_disk check_systemd check_manual check_login check_tls
TESTS += $(ops_tests)
$(foreach t,$(ops_tests),$(eval EXTRA_$(t) := $(e2e_obj)))
# With sentinels: of our own making, and real ones.
sentinel_tests := check_sentinel check_sentinel_ops check_sentinel_farm
TESTS += $(sentinel_tests)
sentinel_obj := $(patsubst %,$(BUILD)/obj/tests/%.o,redis_sentinel \
                fake_server fake_sentinel sentinel_scene)
$(foreach t,$(sentinel_tests),$(eval EXTRA_$(t) = $(e2e_obj) $(sentinel_obj) \
    $(patsubst %,$(BUILD)/obj/tests/%.o,pubsub_client support_tls)))
# With nodes of a cluster of our own making.
fake_tests := check_errand check_node_lies
TESTS += $(fake_tests)
$(foreach t,$(fake_tests),$(eval EXTRA_$(t) = $(e2e_obj) $$(lib_obj) \
    $(patsubst %,$(BUILD)/obj/tests/%.o,lib fake_server fake_cluster \
    fake_cluster_scene)))
group_obj := $(BUILD)/obj/tests/support_group.o
$(group_obj): ALL_CFLAGS += $(shell pkg-config --cflags check)
TESTS += check_group
EXTRA_check_group = $(e2e_obj) $(group_obj) $(lib_obj)
# What docs/security.md claims.
security_tests := check_security_folder check_security_messages \
                  check_security_floods check_security_group \
                  check_security_display
TESTS += $(security_tests)
$(foreach t,$(security_tests),$(eval EXTRA_$(t) = $(e2e_obj) $(group_obj) \
    $(BUILD)/obj/tests/large.o $$(lib_obj)))
TESTS += check_broadcast
TESTS += check_watch_manager
EXTRA_check_watch_manager := $(e2e_obj)
pubsub_tests := check_pubsub check_pubsub_breaks check_pubsub_worker
TESTS += $(pubsub_tests)
pubsub_obj := $(BUILD)/obj/tests/pubsub_client.o
$(foreach t,$(pubsub_tests),$(eval EXTRA_$(t) := $(e2e_obj) $(pubsub_obj) \
    $(BUILD)/obj/tests/pubsub_scene.o))

EXTRA_check_tls += $(BUILD)/obj/tests/support_tls.o

# The library's suites see its inside; all but the first run real programs.
TESTS += check_stream
EXTRA_check_stream = $(e2e_obj) $(pubsub_obj) $(lib_obj)
lib_tests := check_lib check_lib_calls check_lib_async check_lib_stress \
             check_lib_raw check_worker
TESTS += $(lib_tests)
$(foreach t,$(lib_tests),$(eval EXTRA_$(t) = $(e2e_obj) \
    $(BUILD)/obj/tests/lib.o $$(lib_obj)))

# With a manager of the test's own in place of the real one.
liar_tests := check_lib_liar check_lib_edges
TESTS += $(liar_tests)
$(foreach t,$(liar_tests),$(eval EXTRA_$(t) = $(e2e_obj) \
    $(patsubst %,$(BUILD)/obj/tests/%.o,lib liar liar_scene) $$(lib_obj)))

# The gateway's suites run it, with a connection of their own.
gateway_tests := check_gateway check_gateway_blocking check_gateway_faults \
                 check_gateway_cli
TESTS += $(gateway_tests)
gateway_obj := $(BUILD)/obj/tests/gateway.o
$(foreach t,$(gateway_tests),$(eval EXTRA_$(t) = $(e2e_obj) $(gateway_obj)))
TESTS += check_gateway_parts
EXTRA_check_gateway_parts := $(patsubst %,$(BUILD)/obj/workers/gateway/%.o,\
    parse translate catalog buffer commands)
$(gateway_obj): ALL_CFLAGS += $(shell pkg-config --cflags check)

# A cluster of real servers: alone, and behind a manager.
cluster_tests := check_cluster_harness check_cluster_moves \
                 check_cluster_failover check_cluster_diff \
                 check_cluster_commands check_cluster_replicas \
                 check_cluster_login check_cluster_bounds check_cluster_pubsub
TESTS += $(cluster_tests)
cluster_obj := $(redis_cluster_obj) $(patsubst %,$(BUILD)/obj/tests/%.o,\
    support_tls cluster_load cluster_scene lib differential)
TESTS += check_node_rows check_mqstat_cluster
EXTRA_check_node_rows := $(BUILD)/obj/manager/node_rows.o
EXTRA_check_mqstat_cluster = $(e2e_obj) $(cluster_obj) $(lib_obj)
$(foreach t,$(cluster_tests),$(eval EXTRA_$(t) = $(e2e_obj) $(cluster_obj) \
    $$(lib_obj)))
EXTRA_check_cluster_pubsub += $(pubsub_obj) $(BUILD)/obj/tests/pubsub_scene.o

large_tests := check_large check_large_limits check_large_faults \
               check_large_readers
TESTS += $(large_tests)
$(foreach t,$(large_tests),$(eval EXTRA_$(t) = $(e2e_obj) \
    $(BUILD)/obj/tests/large.o $$(lib_obj)))

# Senders whose clock is set back; setback.so does that to the manager.
TESTS += check_clock
EXTRA_check_clock := $(e2e_obj)
$(BUILD)/tests/check_clock: | $(BUILD)/tests/setback.so

# A resolver that takes its time; slow_lookup.so is that to the manager.
TESTS += check_lookup
EXTRA_check_lookup = $(e2e_obj) $(BUILD)/obj/tests/large.o $(lib_obj)
$(BUILD)/tests/check_lookup: | $(BUILD)/tests/slow_lookup.so

preloaded := $(BUILD)/tests/setback.so $(BUILD)/tests/slow_lookup.so
$(preloaded): $(BUILD)/tests/%.so: $(BUILD)/obj/tests/%.o
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -shared -o $@ $< $(LDFLAGS)

# Runs the tests of workers/bindings/python, which use libmqredis.so.
TESTS += check_bindings_python
EXTRA_check_bindings_python := $(e2e_obj)

# With calls made to fail: libfaults.so is preloaded into programs; a suite that
# fails its own calls has the same objects in it.
faults_obj := $(patsubst %,$(BUILD)/obj/tests/faults/%.o,calls sweep acts \
    acts_served acts_truth)
faults_life_tests := check_faults_manager check_faults_succession \
                     check_faults_sentinel check_faults_cluster
faults_tests := check_faults_lib check_faults_worker $(faults_life_tests)
# Thread sanitizer, and clang's address sanitizer, have no place for another
# malloc in the same program.
ifeq ($(filter thread,$(SANITIZE))$(if $(SANITIZE),$(variant_cc)),)
TESTS += $(faults_tests)
endif
$(foreach t,$(faults_tests),$(eval EXTRA_$(t) = $(faults_obj) $(e2e_obj) \
    $$(lib_obj)))
faults_life_obj := $(redis_cluster_obj) $(patsubst %,$(BUILD)/obj/tests/%.o,\
    faults/scene faults/life faults/acts_cluster fake_server fake_sentinel \
    support_tls)
$(foreach t,$(faults_life_tests),$(eval EXTRA_$(t) += $(faults_life_obj)))
$(faults_obj): ALL_CFLAGS += $(shell pkg-config --cflags check)
$(BUILD)/obj/tests/faults/calls.o: ALL_CFLAGS += -U_FORTIFY_SOURCE \
    -D_FORTIFY_SOURCE=0

# Runs tests/chaos, below.
TESTS += check_chaos
EXTRA_check_chaos := $(support)

# Cases in other languages, which the suites run one by one.
script_obj := $(e2e_obj) $(BUILD)/obj/tests/script.o
script_tests := check_bindings_php check_bindings_node check_gateway_clients
TESTS += $(script_tests)
$(foreach t,$(script_tests),$(eval EXTRA_$(t) = $(script_obj)))
EXTRA_check_gateway_clients = $(script_obj) $(gateway_obj)
$(BUILD)/obj/tests/script.o: ALL_CFLAGS += $(shell pkg-config --cflags check)

mqstat_tests := check_mqstat check_mqstat_nodes check_mqstat_orders \
                check_mqstat_budget
TESTS += $(mqstat_tests) check_mqstat_live
$(foreach t,$(mqstat_tests),$(eval EXTRA_$(t) := $(support) \
    $(BUILD)/obj/tests/json.o $(BUILD)/obj/tests/mqstat.o))
EXTRA_check_mqstat_live := $(support)

# Each fuzz target is tests/NAME.c with seeds in tests/corpus/NAME. It is linked
# with IPC_SRC and, where defined, SRC_NAME := further sources.
FUZZ := fuzz_quote fuzz_resp fuzz_request fuzz_message
FUZZ += fuzz_uri fuzz_policy
SRC_fuzz_uri := manager/uri.c
FUZZ += fuzz_sentinel
SRC_fuzz_sentinel := manager/sentinel_reply.c manager/uri.c
FUZZ += fuzz_stream
SRC_fuzz_stream := manager/pushes.c manager/topics.c manager/buffer.c
SRC_fuzz_policy := $(policy_src)

FUZZ += fuzz_scatter
SRC_fuzz_scatter := $(keyspec_src) $(scatter_src) $(walk_src) \
                    manager/framed.c manager/slot.c
FUZZ += fuzz_slotmap
SRC_fuzz_slotmap := manager/slotmap.c $(walk_src)
FUZZ += fuzz_gateway
SRC_fuzz_gateway := $(patsubst %,workers/gateway/%.c,parse translate catalog \
                    buffer commands)
FUZZ += fuzz_mqstat
SRC_fuzz_mqstat := tests/json.c $(patsubst %,tools/mqstat/%.c,text procfs \
                   procqueue sample samples show nodes json prometheus)
FUZZ += fuzz_server
SRC_fuzz_server := $(SERVER_SRC)
SECONDS ?= 30
FUZZ_CC ?= clang

manager_obj := $(MANAGER_SRC:%.c=$(BUILD)/obj/%.o)
ipc_obj    := $(IPC_SRC:%.c=$(BUILD)/obj/%.o)
server_obj := $(SERVER_SRC:%.c=$(BUILD)/obj/%.o)
lib_obj    := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
worker_obj := $(WORKER_SRC:%.c=$(BUILD)/obj/%.o)

# ---- targets ---------------------------------------------------------------

all: $(PROGRAMS:%=$(BUILD)/%) ## build every program

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/libipc.a: $(ipc_obj)
	$(AR) rcs $@ $^

# ---- libmqredis --------------------------------------------------------------

# One object with everything in it, in which only what mqredis.h names is still
# visible: nothing of ipc/ can clash with a program's own names.
$(BUILD)/obj/libmqredis.o: $(lib_obj) $(ipc_obj)
	$(LD) -r -o $@ $^
	$(OBJCOPY) --localize-hidden $@

$(BUILD)/libmqredis.a: $(BUILD)/obj/libmqredis.o
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/libmqredis.so.1: $(lib_obj) $(ipc_obj)
	$(CC) $(OPT) $(CFLAGS) -shared -Wl,-soname,libmqredis.so.1 -o $@ $^ \
	    -Wl,-z,relro,-z,now,-z,noexecstack $(LDSAN) $(LDFLAGS) $(LIBS)
	ln -sf libmqredis.so.1 $(BUILD)/libmqredis.so

# A command from the shell lives about a millisecond, of which a dynamic linker
# would take a good part: so it is linked statically where that is possible
# (STATIC= for not).
STATIC ?= $(if $(SANITIZE)$(COVERAGE),,$(shell echo 'int main(void){return 0;}' | \
            $(CC) -static-pie -x c -o /dev/null - 2>/dev/null && \
            echo -static-pie))

$(BUILD)/mqredis-worker: $(worker_obj) $(BUILD)/obj/workers/line_plain.o \
		$(lib_obj) $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(STATIC) \
	    $(filter-out $(if $(STATIC),-pie),$(ALL_LDFLAGS)) $(LIBS)

$(BUILD)/mqredis-prompt: $(worker_obj) $(BUILD)/obj/workers/line_edit.o \
		$(lib_obj) $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBEDIT) $(LIBS)

$(BUILD)/mqredis-gateway: $(GATEWAY_SRC:%.c=$(BUILD)/obj/%.o) \
		$(BUILD)/libmqredis.a $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

# Examples see what a user of the library sees: its header and its archive.
EXAMPLES := tutorial prefork epoll
examples_bin := $(EXAMPLES:%=$(BUILD)/examples/%)

$(examples_bin): $(BUILD)/examples/%: workers/examples/%.c workers/mqredis.h \
		$(BUILD)/libmqredis.a
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE $(OPT) $(WARN) -Iworkers $(CFLAGS) -o $@ $< \
	    $(BUILD)/libmqredis.a $(LDSAN) $(LDFLAGS) $(LIBS)

$(BUILD)/libserver.a: $(server_obj)
	$(AR) rcs $@ $^

$(BUILD)/mqredis-server: $(BUILD)/obj/server/main.o $(BUILD)/libserver.a \
		$(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

$(BUILD)/mqredis-manager: $(manager_obj) $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(MANAGER_LIBS) $(LIBS)

$(BUILD)/mqstat: $(MQSTAT_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) -lm $(LIBS)

$(BUILD)/mqredis-run: $(RUN_SRC:%.c=$(BUILD)/obj/%.o) \
		$(BUILD)/libmqredis.a $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

$(patsubst %.c,$(BUILD)/obj/%.o,$(BENCH_SRC) tools/bench/get.c \
    tools/bench/large.c): ALL_CFLAGS += \
    $(if $(HIREDIS),-DHAVE_HIREDIS $(shell pkg-config --cflags hiredis))

$(BUILD)/mqredis-bench: $(BENCH_SRC:%.c=$(BUILD)/obj/%.o) \
		$(BUILD)/libmqredis.a $(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(HIREDIS) -lm $(LIBS)

$(BUILD)/mqredis-bench-get: $(BUILD)/obj/tools/bench/get.o
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(HIREDIS) $(LIBS)

$(BUILD)/mqredis-bench-large: $(BUILD)/obj/tools/bench/large.o \
		$(BUILD)/obj/tools/bench/median.o \
		$(STAGE_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libmqredis.a \
		$(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(HIREDIS) $(LIBS)

$(BUILD)/mqredis-bench-watching: $(BUILD)/obj/tools/bench/watching.o \
		$(STAGE_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libmqredis.a \
		$(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) -lm $(LIBS)

$(BUILD)/mqredis-bench-cluster: $(BUILD)/obj/tools/bench/cluster.o \
		$(BUILD)/obj/tools/bench/median.o \
		$(STAGE_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libmqredis.a \
		$(BUILD)/libipc.a
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

# ---- running ---------------------------------------------------------------

run: all ## the main job: server, manager, workers; REDIS=URI for yours
	@tools/in-namespace $(BUILD)/mqredis-run $(if $(REDIS),--redis '$(REDIS)')

bench: all ## compare with hiredis, twemproxy and the limit: build/bench/
	tools/in-namespace $(BUILD)/mqredis-bench --suite --short 1000 \
	    --seconds 0.8 --out $(BUILD)/bench

bench-gateway: all ## mqredis-gateway beside direct connections and twemproxy
	tools/gateway-bench $(BUILD)

# ---- tests -----------------------------------------------------------------

tests_bin := $(TESTS:%=$(BUILD)/tests/%)

tests: $(tests_bin) $(BUILD)/tests/mqredis_abi ## build the test suites

# The layout of what mqredis.h declares, for the tests of bindings.
$(BUILD)/tests/mqredis_abi: $(BUILD)/obj/tests/mqredis_abi.o
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS)

check: all tests $(BUILD)/tests/chaos $(examples_bin) ## run every suite; TESTS="check_a check_b" for some
	tests/run $(BUILD) $(TESTS)

# Asked of pkg-config only by a recipe that needs it: building the programs
# does not take Check.
$(BUILD)/obj/tests/%.o: ALL_CFLAGS += $(shell pkg-config --cflags check)

.SECONDEXPANSION:
$(tests_bin): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o \
		$(BUILD)/obj/tests/support_run.o $$(EXTRA_$$*) $(BUILD)/libipc.a
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) \
	    $(shell pkg-config --libs check) $(LIBS)

coverage: ## which lines the suites run: build/coverage/index.html
	$(MAKE) COVERAGE=1 all tests build/cov/tests/chaos \
	    $(EXAMPLES:%=build/cov/examples/%)
	tools/coverage build/cov build/coverage '$(LIB_SRC)' \
	    $(if $(filter command,$(origin TESTS)),$(TESTS))

# The worker without static linking, which valgrind cannot see into.
$(BUILD)/tests/mqredis-worker: $(worker_obj) $(BUILD)/obj/workers/line_plain.o \
		$(lib_obj) $(BUILD)/libipc.a
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

valgrind: all $(BUILD)/tests/mqredis-worker ## memcheck on one launch of each program
	tools/in-namespace tests/valgrind $(BUILD)

.PHONY: coverage valgrind lint

# ---- what tools find without running anything --------------------------------

# A file is looked at again once it or a header of its has changed, by gcc's
# analyzer first, which writes down what the file includes. `make -k lint` goes
# on after a finding. The analyzers pass over tests, see tests/.clang-tidy.
# Clang's leaves a function after LINT_STEPS: ten times as many, its own default,
# take ten times as long.
LINT_CC    ?= gcc
LINT_STEPS ?= 20000
LINT_FLAGS := -std=c17 -D_GNU_SOURCE -I. -Iworkers \
              $(if $(HIREDIS),-DHAVE_HIREDIS)
LINT_SRC   ?= $(sort $(shell find ipc manager server workers tools tests \
                -name '*.c' -not -path '*/node_modules/*'))
LINT_SH    := $(shell grep -lE '^\#!/bin/(ba)?sh' tests/* tools/* .ci/* \
                2>/dev/null)

# There gcc 12 takes for lost what is freed by way of a member's address or kept
# in an array; LeakSanitizer and check_faults_lib look for leaks of these.
LINT_KEPT := workers/reply.c workers/request.c workers/gateway/catalog.c \
             workers/gateway/session.c tools/mqstat/sample.c \
             manager/gather.c

build/lint/%.o: %.c
	@mkdir -p $(@D)
	@echo "lint $<"
	@$(LINT_CC) $(LINT_FLAGS) -O1 $(if $(filter tests/%,$<),,-fanalyzer) \
	    $(if $(filter $(LINT_KEPT),$<),-Wno-analyzer-malloc-leak) -Werror -MMD -MP -c -o $@ $<

.PRECIOUS: build/lint/%.o

build/lint/%.tidy: %.c build/lint/%.o .clang-tidy tests/.clang-tidy
	@clang-tidy --quiet $< -- $(LINT_FLAGS) -Xclang -analyzer-config \
	    -Xclang max-nodes=$(LINT_STEPS) >$@.log 2>&1 || \
	    { cat $@.log; exit 1; }
	@touch $@

lint: $(LINT_SRC:%.c=build/lint/%.tidy) ## gcc -fanalyzer, clang-tidy, cppcheck, shellcheck
	@mkdir -p build/lint/cppcheck
	cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability \
	    --inline-suppr --error-exitcode=1 --cppcheck-build-dir=build/lint/cppcheck \
	    --suppressions-list=tools/cppcheck.txt -D_GNU_SOURCE -I. -Iworkers \
	    $(LINT_SRC)
	@if command -v shellcheck >/dev/null; then \
	    echo shellcheck $(LINT_SH); shellcheck $(LINT_SH); \
	else echo "skipped: shellcheck is not installed"; fi

# ---- faults ------------------------------------------------------------------

$(faults_tests:%=$(BUILD)/tests/%): | $(BUILD)/tests/libfaults.so
$(BUILD)/tests/check_faults_worker: | $(BUILD)/tests/worker-dynamic

$(BUILD)/tests/worker-dynamic: $(worker_obj) $(lib_obj) \
		$(BUILD)/obj/workers/line_plain.o $(BUILD)/libipc.a
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

$(BUILD)/tests/libfaults.so: $(BUILD)/obj/tests/faults/calls.o
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -shared -o $@ $^ $(LDFLAGS) -ldl

faults: all $(faults_tests:%=$(BUILD)/tests/%) ## every call of manager and library fails in turn: all points
	MQREDIS_LONG=1 SUITE_TIMEOUT=7200 tests/run $(BUILD) $(faults_tests)

chaos_obj := $(patsubst %,$(BUILD)/obj/tests/chaos/%.o,main keeper round \
             world cluster admin programs scarcity faults verdict history \
             worker hand many spread kin news) $(support) $(patsubst %,$(BUILD)/obj/tests/%.o, \
             support_redis support_tls proxy) $(redis_cluster_obj)

$(BUILD)/tests/chaos: $(chaos_obj) $$(lib_obj) $(BUILD)/libipc.a
	@mkdir -p $(@D)
	$(CC) $(OPT) $(CFLAGS) -o $@ $^ $(ALL_LDFLAGS) \
	    $(shell pkg-config --libs check) $(LIBS)

chaos: all $(BUILD)/tests/chaos ## real programs under random faults: SECONDS=30 SEED= CLUSTER=1
	MQREDIS_BUILD=$(BUILD) tools/in-namespace $(BUILD)/tests/chaos \
	    $(if $(CLUSTER),--cluster) $(SECONDS) $(SEED)

REQUESTS ?= 10000000
soak: all $(BUILD)/tests/chaos ## many requests under few faults, each reply checked: REQUESTS=10000000 SEED=
	MQREDIS_BUILD=$(BUILD) tools/in-namespace $(BUILD)/tests/chaos \
	    --requests $(REQUESTS) 3600 $(SEED)

# ---- fuzzing: always clang, a build folder of its own ------------------------

FUZZ_FLAGS := -std=c17 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer \
              -fno-sanitize-recover=all -I. $(WARN)
fuzz_bin   := $(FUZZ:%=build/fuzz/%)

build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined \
	    -MMD -MP -c -o $@ $<

$(fuzz_bin): build/fuzz/%: build/fuzz/obj/tests/%.o \
		$(IPC_SRC:%.c=build/fuzz/obj/%.o) \
		$$(patsubst $$(percent).c,build/fuzz/obj/$$(percent).o,$$(SRC_$$*))
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)

percent := %

# New finds go to build/fuzz/corpus, a crashing input to build/fuzz/NAME-crash-*.
fuzz: $(fuzz_bin) ## fuzz every parser, SECONDS=30 each; FUZZ="fuzz_a" for some
	@for t in $(FUZZ); do \
	    mkdir -p build/fuzz/corpus/$$t && \
	    echo "== $$t" && \
	    build/fuzz/$$t -max_total_time=$(SECONDS) -timeout=10 \
	        -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/$$t- \
	        build/fuzz/corpus/$$t tests/corpus/$$t || exit 1; \
	done

# ---- installing --------------------------------------------------------------

# The unit's template and its kin go where systemd looks below any PREFIX that
# it knows: /usr and /usr/local.
bindir     ?= $(PREFIX)/bin
libdir     ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
mandir     ?= $(PREFIX)/share/man
docdir     ?= $(PREFIX)/share/doc/mqredis
unitdir    ?= $(PREFIX)/lib/systemd/system
completiondir ?= $(PREFIX)/share/bash-completion/completions
INSTALL    ?= install
D          := $(DESTDIR)

install: all ## install into PREFIX (/usr/local), below DESTDIR
	$(INSTALL) -d '$D$(bindir)' '$D$(libdir)/pkgconfig' '$D$(includedir)' \
	    '$D$(mandir)/man1' '$D$(mandir)/man8' '$D$(docdir)' '$D$(unitdir)' \
	    '$D$(PREFIX)/lib/sysctl.d' '$D$(PREFIX)/lib/sysusers.d'
	$(INSTALL) -m 755 $(patsubst %,$(BUILD)/%,mqredis-manager mqredis-worker \
	    mqredis-gateway mqredis-server mqstat) '$D$(bindir)'
	$(if $(LIBEDIT),$(INSTALL) -D -m 755 $(BUILD)/mqredis-prompt \
	    '$D$(PREFIX)/libexec/mqredis/mqredis-prompt')
	$(INSTALL) -m 644 $(BUILD)/libmqredis.a '$D$(libdir)'
	$(INSTALL) -m 755 $(BUILD)/libmqredis.so.1 '$D$(libdir)'
	ln -sf libmqredis.so.1 '$D$(libdir)/libmqredis.so'
	$(INSTALL) -m 644 workers/mqredis.h '$D$(includedir)'
	printf '%s\n' 'Name: mqredis' \
	    'Description: Redis over a message queue of this host' \
	    'Version: $(VERSION)' 'Cflags: -I$(includedir)' \
	    'Libs: -L$(libdir) -lmqredis' 'Libs.private: -lrt -pthread' \
	    >'$D$(libdir)/pkgconfig/mqredis.pc'
	$(INSTALL) -m 644 docs/man/*.1 '$D$(mandir)/man1'
	$(INSTALL) -m 644 docs/man/*.8 '$D$(mandir)/man8'
	$(INSTALL) -d '$D$(mandir)/man3' '$D$(completiondir)'
	$(INSTALL) -m 644 docs/man/*.3 '$D$(mandir)/man3'
	$(INSTALL) -m 644 workers/completion.bash \
	    '$D$(completiondir)/mqredis-worker'
	for name in mqredis-manager mqredis-gateway mqredis-server mqstat; do \
	    ln -sf mqredis-worker '$D$(completiondir)/'$$name; done
	$(INSTALL) -m 644 docs/*.md tools/systemd/channel.conf \
	    tools/mqstat.schema.json '$D$(docdir)'
	for unit in manager gateway; do \
	    sed 's,@bindir@,$(bindir),' \
	        tools/systemd/mqredis-$$unit@.service.in \
	        >'$D$(unitdir)/mqredis-'$$unit'@.service' || exit 1; done
	$(INSTALL) -m 644 tools/systemd/mqredis.sysctl.conf \
	    '$D$(PREFIX)/lib/sysctl.d/60-mqredis.conf'
	$(INSTALL) -m 644 tools/systemd/mqredis.sysusers.conf \
	    '$D$(PREFIX)/lib/sysusers.d/mqredis.conf'

uninstall: ## remove what install put there; /etc/mqredis stays
	rm -f $(patsubst %,'$D$(bindir)/%',mqredis-manager mqredis-worker \
	    mqredis-gateway mqredis-server mqstat) $(patsubst %,'$D$(libdir)/%',libmqredis.a \
	    libmqredis.so.1 libmqredis.so pkgconfig/mqredis.pc) \
	    '$D$(includedir)/mqredis.h' '$D$(unitdir)/mqredis-manager@.service' \
	    '$D$(unitdir)/mqredis-gateway@.service' \
	    '$D$(PREFIX)/lib/sysctl.d/60-mqredis.conf' \
	    '$D$(PREFIX)/lib/sysusers.d/mqredis.conf' \
	    $(patsubst docs/man/%,'$D$(mandir)/man1/%',$(wildcard docs/man/*.1)) \
	    $(patsubst docs/man/%,'$D$(mandir)/man8/%',$(wildcard docs/man/*.8)) \
	    $(patsubst docs/man/%,'$D$(mandir)/man3/%',$(wildcard docs/man/*.3)) \
	    $(patsubst %,'$D$(completiondir)/%',mqredis-worker mqredis-manager \
	    mqredis-gateway mqredis-server mqstat)
	rm -rf '$D$(docdir)' '$D$(PREFIX)/libexec/mqredis'

# ----------------------------------------------------------------------------

clean: ## remove everything built
	rm -rf build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t16

.PHONY: all run bench bench-gateway tests check chaos soak faults fuzz install uninstall clean help
.DELETE_ON_ERROR:

-include $(shell find $(BUILD)/obj build/fuzz/obj build/lint -name '*.d' 2>/dev/null)
