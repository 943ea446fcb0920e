/*
 * Append and replay: what a log is for.
 *
 *     ./append_replay mylog
 *
 * Run it again: the second run finds what the first one left, and goes on. Kill it wherever you
 * like: the three records of a batch are there together or not at all.
 */

#include <duralog.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Says why the last call failed, and gives the exit status for it. */
static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

static wal_op_t put(const char *key, const char *value)
{
    wal_op_t op = {0};
    op.op = WAL_OP_PUT;
    op.key = (const uint8_t *)key;
    op.key_len = strlen(key);
    op.value = (const uint8_t *)value;
    op.value_len = strlen(value);
    return op;
}

/* Called by wal_replay for every committed record, in order. The bytes are borrowed: what is
   needed later must be copied here. */
static int print(void *user_data, const wal_record_t *record)
{
    uint64_t *count = user_data;
    printf("  %" PRIu64 ": %.*s = %.*s\n", record->seq, (int)record->key_len,
           (const char *)record->key, (int)record->value_len, (const char *)record->value);
    (*count)++;
    return 0; /* anything else would stop the replay */
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s LOG\n", argv[0]);
        return 2;
    }

    /* NULL: the defaults. The log is made if it is not there, recovered if its last writer died,
       and every append is durable before it returns. */
    wal_t *wal = NULL;
    if (wal_open(argv[1], NULL, &wal) != DURALOG_OK)
        return failed("wal_open");

    uint64_t count = 0;
    printf("found:\n");
    if (wal_replay(wal, 0, print, &count) != DURALOG_OK)
        return failed("wal_replay");
    printf("%" PRIu64 " records\n", count);

    /* One record alone is atomic by itself ... */
    uint64_t seq = 0;
    if (wal_append(wal, WAL_OP_PUT, (const uint8_t *)"city", 4, (const uint8_t *)"Bonn", 4, 0,
                   &seq) != DURALOG_OK)
        return failed("wal_append");
    printf("appended one record: %" PRIu64 "\n", seq);

    /* ... and a batch is atomic as a whole. Its COMMIT takes a sequence number too. */
    const uint64_t before = seq;
    const wal_op_t batch[] = {put("river", "Rhine"), put("bridge", "Kennedy"), put("ferry", "")};
    if (wal_append_batch(wal, batch, 3, 0, &seq) != DURALOG_OK)
        return failed("wal_append_batch");
    printf("appended a batch, committed as %" PRIu64 "\n", seq);

    /* To resume, give the last sequence number seen: only what came after it is shown. */
    count = 0;
    printf("after %" PRIu64 ":\n", before);
    if (wal_replay(wal, before, print, &count) != DURALOG_OK)
        return failed("wal_replay");
    printf("%" PRIu64 " records\n", count);

    /* Closing marks the end as clean, so that the next open has nothing to recover. */
    if (wal_close(wal) != DURALOG_OK)
        return failed("wal_close");
    return 0;
}
