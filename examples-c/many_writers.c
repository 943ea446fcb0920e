/*
 * Many threads, one log: each append is durable before it returns, and still they share syncs.
 *
 *     ./many_writers mylog
 *
 * A handle may be used by any number of threads at once. Batches that wait together are written and
 * synced together (group commit), so the more threads append, the cheaper each append becomes. In
 * the log, batches of several threads alternate, but each batch stands in one piece, and the
 * batches of one thread stand in the order in which it appended them.
 */

#include <duralog.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 8, BATCHES = 100, RECORDS = 3 };

typedef struct writer_t {
    wal_t *wal; /* the same for all */
    pthread_t thread;
    uint8_t number;
    int failed;
} writer_t;

static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT; /* that of this thread */
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

/* Appends BATCHES batches: key, number of the thread; value, number of the batch. */
static void *write_batches(void *argument)
{
    writer_t *writer = argument;
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        wal_op_t ops[RECORDS] = {{0}};
        for (int i = 0; i < RECORDS; i++) {
            ops[i].op = WAL_OP_PUT;
            ops[i].key = &writer->number;
            ops[i].key_len = 1;
            ops[i].value = (const uint8_t *)&batch;
            ops[i].value_len = sizeof batch;
        }
        if (wal_append_batch(writer->wal, ops, RECORDS, 0, NULL) != DURALOG_OK) {
            writer->failed = failed("wal_append_batch");
            return NULL;
        }
    }
    return NULL;
}

/* Records seen of each thread: they must come as 0 0 0 1 1 1 2 2 2 ... */
static int check_order(void *user_data, const wal_record_t *record)
{
    uint32_t *seen = user_data;
    uint32_t batch = 0;
    if (record->key_len != 1 || record->key[0] >= THREADS || record->value_len != sizeof batch)
        return 1;
    memcpy(&batch, record->value, sizeof batch);
    return batch != seen[record->key[0]]++ / RECORDS;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s LOG\n", argv[0]);
        return 2;
    }
    wal_options_t options = WAL_OPTIONS_INIT;
    options.open_flags = WAL_OPEN_MUST_CREATE; /* a new log, so that what we count is ours */
    wal_t *wal = NULL;
    if (wal_open(argv[1], &options, &wal) != DURALOG_OK)
        return failed("wal_open");

    writer_t writers[THREADS] = {{0}};
    int started = 0;
    int bad = 0;
    for (; started < THREADS; started++) {
        writers[started].wal = wal;
        writers[started].number = (uint8_t)started;
        if (pthread_create(&writers[started].thread, NULL, write_batches, &writers[started]) != 0) {
            bad = 1;
            break;
        }
    }
    for (int i = 0; i < started; i++)
        bad |= pthread_join(writers[i].thread, NULL) != 0 || writers[i].failed;
    if (bad) {
        fprintf(stderr, "a writer failed\n");
        return 1;
    }

    uint32_t seen[THREADS] = {0};
    const duralog_status_t status = wal_replay(wal, 0, check_order, seen);
    if (status == DURALOG_STOPPED) {
        fprintf(stderr, "a record is not where its thread put it\n");
        return 1;
    }
    if (status != DURALOG_OK)
        return failed("wal_replay");
    for (int i = 0; i < THREADS; i++)
        printf("thread %d: %" PRIu32 " records, in order\n", i, seen[i]);

    wal_stat_t stat = WAL_STAT_INIT;
    if (wal_stat(wal, &stat) != DURALOG_OK)
        return failed("wal_stat");
    printf("%" PRIu64 " batches, %" PRIu64 " records, %" PRIu64 " syncs\n", stat.batch_count,
           stat.record_count, stat.sync_count);
    if (wal_close(wal) != DURALOG_OK)
        return failed("wal_close");
    return 0;
}
