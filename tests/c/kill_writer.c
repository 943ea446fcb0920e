/*
 * A writer that tests/kill.rs kills: appends batches which its seed determines, and reports each
 * that is acknowledged. kill_writer.py and writer_in_rust in tests/kill.rs do the same.
 *
 * Usage: kill_writer LOG SEED MODE STOP_AFTER
 * MODE: every, interval or manual. STOP_AFTER: batches after which the log is closed; 0: never.
 * With KILL_WRITER_LIES in the environment, batches are reported before they are appended.
 *
 * Reports, each with one write:
 *     @S            the log is about to be opened
 *     @O n          it is open, and batch n is its last; 0: there is none
 *     @A n seq      batch n is acknowledged
 *     @C n seq      the checkpoint behind batch n is
 *     @T n          truncation up to batch n is about to begin
 *     @t n          it is acknowledged
 *     @X            the log is closed
 *     @E text       something failed
 */

#define _POSIX_C_SOURCE 200809L

#include <duralog.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_LEN 65536
#define VALUE_LEN_MAX 32768
#define RECORDS_MAX 260
#define KEY_LEN_MAX 48
#define HISTORY_LEN 16

static uint64_t seed;
static uint8_t pool[POOL_LEN];

/* The last batches: batch n in place n % HISTORY_LEN. */
static struct {
    uint64_t batch;
    uint64_t seq;
} history[HISTORY_LEN];

static void report(const char *format, ...)
{
    char line[1200];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (len < 0 || len > (int)sizeof line - 2)
        len = (int)sizeof line - 2;
    line[len++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(4);
}

static void must(const char *what, duralog_status_t status)
{
    if (status == DURALOG_OK)
        return;
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    report("@E %s: %s: %s", what, duralog_status_name(status), error.message);
    exit(1);
}

static uint64_t mix(uint64_t value)
{
    uint64_t z = value + UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t number(uint64_t batch, uint64_t index)
{
    return mix(mix(seed ^ mix(batch)) + index);
}

static void fill_pool(void)
{
    for (uint64_t word = 0; word < POOL_LEN / 8; word++) {
        uint64_t value = mix(seed + word);
        for (int byte = 0; byte < 8; byte++)
            pool[word * 8 + (uint64_t)byte] = (uint8_t)(value >> 8 * byte);
    }
}

/* How many records batch n has, the bounds of their values, and whether it is a single append. */
static uint64_t shape(uint64_t batch, uint64_t *len_min, uint64_t *len_max, int *solo)
{
    uint64_t drawn = number(batch, 0);
    uint64_t class = drawn % 100, size = drawn >> 32;
    *len_min = 0;
    *len_max = 300;
    *solo = class < 35;
    if (class < 40)
        return 1;
    if (class < 75)
        return 2 + size % 19;
    if (class < 90) {
        *len_max = 8192;
        return 1 + size % 8;
    }
    *len_min = 16384;
    *len_max = VALUE_LEN_MAX;
    if (class < 98)
        return 5 + size % 8;
    return 200 + size % 61;
}

static uint64_t append(wal_t *wal, uint64_t batch)
{
    static wal_op_t ops[RECORDS_MAX];
    static char keys[RECORDS_MAX][KEY_LEN_MAX];
    uint64_t len_min, len_max, seq;
    int solo;
    uint64_t count = shape(batch, &len_min, &len_max, &solo);
    for (uint64_t index = 0; index < count; index++) {
        uint64_t drawn = number(batch, index + 1);
        uint64_t len = len_min + drawn % (len_max - len_min + 1);
        uint64_t begin = (drawn >> 32) % (POOL_LEN - len + 1);
        wal_op_t *op = &ops[index];
        op->op = WAL_OP_PUT;
        op->key = (const uint8_t *)keys[index];
        op->key_len = (size_t)snprintf(keys[index], KEY_LEN_MAX, "%" PRIu64 "/%" PRIu64 "/%" PRIu64,
                                       batch, index, count);
        op->value = pool + begin;
        op->value_len = (size_t)len;
    }
    int lies = getenv("KILL_WRITER_LIES") != NULL;
    if (lies) {
        wal_stat_t stat = WAL_STAT_INIT;
        must("wal_stat", wal_stat(wal, &stat));
        report("@A %" PRIu64 " %" PRIu64, batch, stat.last_seq + count + (solo ? 0 : 1));
    }
    if (solo)
        must("wal_append", wal_append(wal, ops[0].op, ops[0].key, ops[0].key_len, ops[0].value,
                                      ops[0].value_len, 0, &seq));
    else
        must("wal_append_batch", wal_append_batch(wal, ops, (size_t)count, 0, &seq));
    if (!lies)
        report("@A %" PRIu64 " %" PRIu64, batch, seq);
    return seq;
}

static void remember(uint64_t batch, uint64_t seq)
{
    history[batch % HISTORY_LEN].batch = batch;
    history[batch % HISTORY_LEN].seq = seq;
}

/* Learns from the log where it stands. */
static int learn(void *user_data, const wal_record_t *record)
{
    uint64_t *last = user_data;
    uint64_t len_min, len_max;
    int solo;
    char key[KEY_LEN_MAX] = {0};
    memcpy(key, record->key, record->key_len < sizeof key ? record->key_len : sizeof key - 1);
    uint64_t batch = strtoull(key, NULL, 10);
    shape(batch, &len_min, &len_max, &solo);
    remember(batch, record->seq + (solo ? 0 : 1));
    *last = batch;
    return 0;
}

static void truncate_up_to(wal_t *wal, uint64_t batch)
{
    if (history[batch % HISTORY_LEN].batch != batch || batch == 0)
        return;
    report("@T %" PRIu64, batch);
    must("wal_truncate", wal_truncate(wal, history[batch % HISTORY_LEN].seq));
    report("@t %" PRIu64, batch);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    seed = strtoull(argv[2], NULL, 10);
    uint64_t stop_after = strtoull(argv[4], NULL, 10);
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = 65536;
    options.sync_interval_batches = 20;
    options.sync_interval_ms = 5;
    options.sync_mode = strstr(argv[3], "every") != NULL      ? WAL_SYNC_EVERY
                        : strstr(argv[3], "interval") != NULL ? WAL_SYNC_INTERVAL
                                                              : WAL_SYNC_MANUAL;
    options.open_flags = strstr(argv[3], "mapped") != NULL ? WAL_OPEN_MAPPED_APPENDS : 0;
    fill_pool();
    wal_t *wal = NULL;
    report("@S");
    must("wal_open", wal_open(argv[1], &options, &wal));
    uint64_t last = 0;
    must("wal_replay", wal_replay(wal, 0, learn, &last));
    report("@O %" PRIu64, last);
    for (uint64_t done = 0; stop_after == 0 || done < stop_after; done++) {
        last++;
        remember(last, append(wal, last));
        uint64_t seq;
        char data[24];
        switch (number(last, UINT64_C(1) << 32) % 24) {
        case 0:
            must("wal_sync", wal_sync(wal));
            break;
        case 1:
            snprintf(data, sizeof data, "%" PRIu64, last);
            must("wal_checkpoint",
                 wal_checkpoint(wal, (const uint8_t *)data, strlen(data), &seq));
            report("@C %" PRIu64 " %" PRIu64, last, seq);
            break;
        case 2:
            if (last > 6)
                truncate_up_to(wal, last - 6);
            break;
        case 3:
            truncate_up_to(wal, last - 1);
            break;
        default:
            break;
        }
    }
    must("wal_close", wal_close(wal));
    report("@X");
    return 0;
}
