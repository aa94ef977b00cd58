#define FFI_SCOPE "MQREDIS"
#define FFI_LIB "libmqredis.so.1"
/*
 * What this binding uses of mqredis.h, for FFI::load and FFI::cdef, which know
 * no preprocessor beyond the two lines above. The tests compare it with
 * what a C compiler makes of the real header.
 */
enum mqredis_status {
    MQREDIS_OK = 0,
    MQREDIS_INVALID = 1,
    MQREDIS_EXPIRED = 2,
    MQREDIS_UNAVAILABLE = 3,
    MQREDIS_TOO_BIG = 4,
    MQREDIS_LOST = 5,
    MQREDIS_NOMEM = 6,
    MQREDIS_SYSTEM = 7
};

enum mqredis_type {
    MQREDIS_STRING = 1,
    MQREDIS_ARRAY = 2,
    MQREDIS_INTEGER = 3,
    MQREDIS_NIL = 4,
    MQREDIS_STATUS = 5,
    MQREDIS_ERROR = 6,
    MQREDIS_DOUBLE = 7,
    MQREDIS_BOOL = 8,
    MQREDIS_MAP = 9,
    MQREDIS_SET = 10,
    MQREDIS_PUSH = 12,
    MQREDIS_BIGNUM = 13,
    MQREDIS_VERBATIM = 14,
    MQREDIS_BATCH = 64,
    MQREDIS_FAILURE = 65
};

enum mqredis_event_type {
    MQREDIS_MESSAGE = 1,
    MQREDIS_SUBSCRIBED,
    MQREDIS_LAGGED,
    MQREDIS_GAP,
    MQREDIS_END
};

struct mqredis_error {
    enum mqredis_status status;
    char text[512];
};

struct mqredis_reply {
    enum mqredis_type type;
    enum mqredis_status status;
    int64_t integer;
    double real;
    char *str;
    size_t len;
    char format[4];
    size_t elements;
    struct mqredis_reply **element;
    struct mqredis_reply *attributes;
};

struct mqredis_info {
    long queue_depth;
    long queue_capacity;
    size_t message_size;
    int32_t manager_pid;
    bool connected;
    char state[16];
    char server[160];
    char last_error[256];
    int resp;
    unsigned db;
};

struct mqredis_event {
    enum mqredis_event_type type;
    enum mqredis_status status;
    uint64_t count;
    const char *channel, *pattern, *data;
    size_t channel_len, pattern_len, len;
    const char *raw;
    size_t raw_len;
};

struct mqredis;
struct mqredis_batch;
struct mqredis_stream;

const char *mqredis_version(void);
void mqredis_free(struct mqredis_reply *reply);

struct mqredis *mqredis_open(const char *channel, struct mqredis_error *error);
void mqredis_close(struct mqredis *mq);
void mqredis_set_timeout(struct mqredis *mq, int64_t timeout_ms);
enum mqredis_status mqredis_wait_ready(struct mqredis *mq, int64_t timeout_ms,
                                       struct mqredis_error *error);
enum mqredis_status mqredis_info(struct mqredis *mq, struct mqredis_info *info,
                                 struct mqredis_error *error);

struct mqredis_reply *mqredis_command(struct mqredis *mq, const char *format,
                                      ...);
struct mqredis_reply *mqredis_command_argv(struct mqredis *mq, size_t argc,
                                           const char **argv,
                                           const size_t *len);

struct mqredis_batch *mqredis_batch_new(struct mqredis *mq);
void mqredis_batch_add(struct mqredis_batch *batch, const char *format, ...);
void mqredis_batch_add_argv(struct mqredis_batch *batch, size_t argc,
                            const char **argv, const size_t *len);
struct mqredis_reply *mqredis_batch_run(struct mqredis_batch *batch);
struct mqredis_reply *mqredis_transaction_run(struct mqredis_batch *batch);

struct mqredis_stream *mqredis_subscribe(struct mqredis *mq, size_t count,
                                         const char **channels,
                                         const size_t *len,
                                         struct mqredis_error *error);
struct mqredis_stream *mqredis_psubscribe(struct mqredis *mq, size_t count,
                                          const char **patterns,
                                          const size_t *len,
                                          struct mqredis_error *error);
struct mqredis_stream *mqredis_ssubscribe(struct mqredis *mq, size_t count,
                                          const char **channels,
                                          const size_t *len,
                                          struct mqredis_error *error);
bool mqredis_stream_next(struct mqredis_stream *stream, int64_t timeout_ms,
                         struct mqredis_event *event);
enum mqredis_status mqredis_stream_renew(struct mqredis_stream *stream,
                                         int64_t timeout_ms,
                                         struct mqredis_error *error);
void mqredis_stream_close(struct mqredis_stream *stream);

/* Of libc, for Client::persistent. */
char *getenv(const char *name);
int setenv(const char *name, const char *value, int overwrite);
unsigned long getauxval(unsigned long type);
