/*
 * Appends the batches of powercut_workload.h and prints "ack N" when batch N is acknowledged. In the mode
 * goon it asks what became of a batch that is in doubt.
 *
 *     powercut_writer LOG LAST [MODE [BASE]]
 *
 * See powercut_steps.h.
 */

#define _POSIX_C_SOURCE 200809L
#include "powercut_steps.h"
#include "powercut_workload.h"

static wal_t *wal;

static duralog_status_t try_open(void)
{
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = WORKLOAD_SEGMENT_BYTES;
    options.sync_mode = sync_mode;
    return wal_open(path, &options, &wal);
}

static duralog_status_t try_close(void)
{
    wal_t *open = wal;
    wal = NULL;
    return wal_close(open);
}

static int was_carried_out(const duralog_error_t *error)
{
    int32_t status = WAL_BATCH_ABSENT;
    if (error->status != DURALOG_E_INDETERMINATE)
        return 0;
    if (wal_batch_status(wal, error->lsn, &status) != DURALOG_OK) {
        failed("wal_batch_status");
        abort();
    }
    return status == WAL_BATCH_COMMITTED;
}

static duralog_status_t append(uint32_t batch)
{
    static workload_record_t records[WORKLOAD_COUNT_MAX];
    wal_op_t ops[WORKLOAD_COUNT_MAX];
    const uint32_t count = workload_count(batch);
    for (uint32_t i = 0; i < count; i++) {
        workload_record(batch, i, &records[i]);
        ops[i] = workload_op(&records[i]);
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

int main(int argc, char **argv)
{
    uint32_t base, last;
    read_arguments(argc, argv, &base, &last);
    open_it();
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
            close_it();
            open_it();
        }
    }
    close_it();
    return 0;
}
