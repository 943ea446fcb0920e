/*
 * Appends the batches of powercut_workload.h and prints "ack N" when batch N is acknowledged.
 *
 *     powercut_writer LOG LAST [MODE [BASE]]
 *
 * It begins after batch BASE, which the log has. MODE says what is done about an error:
 *
 *     stop    nothing more is appended and the log is closed: exit status 1. The default.
 *     goon    full: the same call again. Else close, open, ask what became of the batch, and append
 *             it again if it is absent. An error comes once only, so this gets through, or aborts.
 *     manual  as stop; but what it acknowledges is not durable: a mistake that must be found.
 */

#define _POSIX_C_SOURCE 200809L
#include "powercut_workload.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;
static uint32_t sync_mode;
static int goes_on;
static wal_t *wal;

/* Says what failed, and ends the program unless it goes on. */
static duralog_error_t failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    if (!goes_on) {
        wal_close(wal);
        exit(1);
    }
    return error;
}

static void open_log(void)
{
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = WORKLOAD_SEGMENT_BYTES;
    options.sync_mode = sync_mode;
    if (wal_open(path, &options, &wal) == DURALOG_OK)
        return;
    failed("wal_open");
    if (wal_open(path, &options, &wal) != DURALOG_OK) {
        failed("wal_open, again");
        abort();
    }
}

static void close_log(void)
{
    if (wal_close(wal) != DURALOG_OK) {
        wal = NULL; /* it was released all the same */
        failed("wal_close");
    }
    wal = NULL;
}

static int32_t status_of(uint64_t batch_id)
{
    int32_t status = WAL_BATCH_ABSENT;
    if (wal_batch_status(wal, batch_id, &status) != DURALOG_OK) {
        failed("wal_batch_status");
        abort();
    }
    return status;
}

/* What happens to the log for batch `batch`; `what` tells which step. */
typedef duralog_status_t step_t(uint32_t batch);

/* Takes a step, until it is taken. */
static void take(step_t *step, uint32_t batch, const char *what)
{
    for (int attempt = 1;; attempt++) {
        if (step(batch) == DURALOG_OK)
            return;
        const duralog_error_t error = failed(what);
        if (attempt == 3)
            abort();
        if (error.status == DURALOG_E_FULL)
            continue; /* nothing was written, and the handle stays usable */
        wal_close(wal);
        open_log();
        if (error.status == DURALOG_E_INDETERMINATE && status_of(error.lsn) == WAL_BATCH_COMMITTED)
            return;
    }
}

static duralog_status_t append(uint32_t batch)
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
        return wal_append(wal, WAL_OP_PUT, ops[0].key, ops[0].key_len, ops[0].value,
                          ops[0].value_len, 0, NULL);
    return wal_append_batch(wal, ops, count, 0, NULL);
}

static duralog_status_t checkpoint(uint32_t batch)
{
    char text[16];
    sprintf(text, "%u", (unsigned)batch);
    return wal_checkpoint(wal, (const uint8_t *)text, strlen(text), NULL);
}

static duralog_status_t truncate_log(uint32_t batch)
{
    return wal_truncate(wal, workload_seq(batch));
}

/* A promise that the world has heard is one that must be kept: hence the flush. */
static void tell(const char *what, uint32_t batch)
{
    printf("%s %u\n", what, (unsigned)batch);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    alarm(60); /* what hangs is killed */
    path = argv[1];
    const uint32_t last = (uint32_t)strtoul(argv[2], NULL, 10);
    const char *mode = argc > 3 ? argv[3] : "stop";
    const uint32_t base = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    goes_on = strcmp(mode, "goon") == 0;
    sync_mode = strcmp(mode, "manual") == 0 ? WAL_SYNC_MANUAL : WAL_SYNC_EVERY;
    open_log();
    for (uint32_t batch = base + 1; batch <= last; batch++) {
        take(append, batch, "append");
        tell("ack", batch);
        if (batch % 10 == 0) {
            take(checkpoint, batch, "checkpoint");
            tell("checkpoint", batch);
        }
        if (batch % 20 == 0) {
            tell("truncating", batch - WORKLOAD_KEPT); /* from here on it may happen */
            take(truncate_log, batch - WORKLOAD_KEPT, "truncate");
            tell("truncated", batch - WORKLOAD_KEPT);
        }
        if (batch % 35 == 0) {
            close_log();
            open_log();
        }
    }
    close_log();
    return 0;
}
