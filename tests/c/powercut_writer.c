/*
 * Appends the batches of powercut_workload.h and prints "ack N" when batch N is acknowledged.
 *
 *     powercut_writer LOG COUNT [manual]
 *
 * With "manual" it acknowledges what is not durable: a mistake that must be found.
 */

#include "powercut_workload.h"
#include <stdlib.h>
#include <string.h>

static void must(duralog_status_t status, const char *what)
{
    if (status != DURALOG_OK) {
        duralog_error_t error = DURALOG_ERROR_INIT;
        duralog_last_error(&error);
        fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(status), error.message);
        exit(1);
    }
}

static wal_t *open_log(const char *path, uint32_t sync_mode)
{
    wal_t *wal = NULL;
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = WORKLOAD_SEGMENT_BYTES;
    options.sync_mode = sync_mode;
    must(wal_open(path, &options, &wal), "wal_open");
    return wal;
}

/* A promise that the world has heard is one that must be kept: hence the flush. */
static void tell(const char *what, uint32_t batch)
{
    printf("%s %u\n", what, (unsigned)batch);
    fflush(stdout);
}

static void append(wal_t *wal, uint32_t batch)
{
    static workload_record_t records[WORKLOAD_COUNT_MAX];
    wal_op_t ops[WORKLOAD_COUNT_MAX] = {{0}};
    const uint32_t count = workload_count(batch);
    for (uint32_t i = 0; i < count; i++) {
        workload_record(batch, i, &records[i]);
        ops[i].op = WAL_OP_PUT;
        ops[i].key = (const uint8_t *)records[i].key;
        ops[i].key_len = records[i].key_len;
        ops[i].value = records[i].value;
        ops[i].value_len = records[i].value_len;
    }
    if (count == 1)
        must(wal_append(wal, WAL_OP_PUT, ops[0].key, ops[0].key_len, ops[0].value,
                        ops[0].value_len, 0, NULL),
             "wal_append");
    else
        must(wal_append_batch(wal, ops, count, 0, NULL), "wal_append_batch");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const uint32_t sync_mode = argc > 3 ? WAL_SYNC_MANUAL : WAL_SYNC_EVERY;
    const uint32_t count = (uint32_t)strtoul(argv[2], NULL, 10);
    wal_t *wal = open_log(argv[1], sync_mode);
    for (uint32_t batch = 1; batch <= count; batch++) {
        append(wal, batch);
        tell("ack", batch);
        if (batch % 10 == 0) {
            char text[16];
            sprintf(text, "%u", (unsigned)batch);
            must(wal_checkpoint(wal, (const uint8_t *)text, strlen(text), NULL), "wal_checkpoint");
            tell("checkpoint", batch);
        }
        if (batch % 20 == 0) {
            tell("truncating", batch - WORKLOAD_KEPT); /* from here on it may happen */
            must(wal_truncate(wal, workload_seq(batch - WORKLOAD_KEPT)), "wal_truncate");
            tell("truncated", batch - WORKLOAD_KEPT);
        }
        if (batch % 15 == 0) {
            must(wal_close(wal), "wal_close");
            wal = open_log(argv[1], sync_mode);
        }
    }
    must(wal_close(wal), "wal_close");
    return 0;
}
