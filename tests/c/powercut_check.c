/*
 * Opens a log that a power cut left, as a user would, and compares it with what the writers of
 * powercut_workload.h were promised. $POWERCUT_ACKS names a file of what had been printed before the cut.
 *
 *     powercut_check LOG [BASE]
 *
 * Every acknowledged batch is there, whole and right, unless it was truncated; at most the one that
 * was being appended is there besides; nothing partial. The batches up to BASE were in the log
 * before what was recorded began.
 */

#include "powercut_check.h"

static uint32_t acked, checkpointed, truncating, truncated; /* numbers of batches; 0: none */

static void read_acks(void)
{
    FILE *file = open_acks();
    char line[64];
    while (fgets(line, sizeof line, file) != NULL) {
        char what[16];
        unsigned batch;
        if (sscanf(line, "%15s %u", what, &batch) != 2)
            fail("what is this acknowledgement? %s", line);
        if (strcmp(what, "ack") == 0)
            acked = batch;
        else if (strcmp(what, "checkpoint") == 0)
            checkpointed = batch;
        else if (strcmp(what, "truncating") == 0)
            truncating = batch;
        else if (strcmp(what, "truncated") == 0)
            truncated = batch;
        else
            fail("what is this acknowledgement? %s", line);
    }
    fclose(file);
}

/* Where a replay stands: the record that must come next. */
typedef struct walk_t {
    uint32_t first; /* batch that came first; 0: none yet */
    uint32_t batch; /* batch of the record that was seen last */
    uint32_t index; /* its place in the batch */
    uint64_t batch_id;
    int after; /* records that this checker appended */
} walk_t;

static int expect(void *user_data, const wal_record_t *record)
{
    static workload_record_t expected;
    walk_t *walk = user_data;
    unsigned batch, index;
    if (is_after(record)) {
        walk->after++;
        return 0;
    }
    char key[32] = {0};
    memcpy(key, record->key, record->key_len < 31 ? record->key_len : 31);
    if (sscanf(key, "%u/%u", &batch, &index) != 2)
        fail("record %llu has the key '%s'", (unsigned long long)record->seq, key);
    const int begins = walk->first == 0 || walk->index + 1 == workload_count(walk->batch);
    if (begins ? index != 0 || (walk->first != 0 && batch != walk->batch + 1)
               : batch != walk->batch || index != walk->index + 1)
        fail("after record %u of batch %u comes %s", walk->index, walk->batch, key);
    if (!begins && record->batch_id != walk->batch_id)
        fail("%s is in another batch than the record before it", key);
    workload_record(batch, index, &expected);
    if (expected.value_len != record->value_len
        || memcmp(expected.value, record->value, record->value_len) != 0)
        fail("%s has a wrong value of %zu bytes", key, record->value_len);
    if (record->seq != workload_seq(batch) - (workload_count(batch) > 1) - workload_count(batch)
                           + index + 1)
        fail("%s has the sequence number %llu", key, (unsigned long long)record->seq);
    if (walk->first == 0)
        walk->first = batch;
    walk->batch = batch;
    walk->index = index;
    walk->batch_id = record->batch_id;
    return 0;
}

/* Replays all and returns the last batch; 0 if there is none. */
static uint64_t check(const char *how, wal_t *wal, int after)
{
    walk_t walk = {0, 0, 0, 0, 0};
    if (wal_replay(wal, 0, expect, &walk) != DURALOG_OK)
        fail("%s: replay ends in batch %u", how, walk.batch);
    if (walk.first != 0 && walk.index + 1 != workload_count(walk.batch))
        fail("%s: batch %u ends at record %u", how, walk.batch, walk.index);
    if (walk.batch < acked)
        fail("%s: %u batches were acknowledged, the last one there is %u", how, acked, walk.batch);
    if (walk.batch > acked + 1)
        fail("%s: batch %u was never appended", how, walk.batch);
    if (walk.first != 0 && walk.first != truncated + 1 && walk.first != truncating + 1)
        fail("%s: truncated up to %u, the first one there is %u", how, truncated, walk.first);
    if (walk.after != after)
        fail("%s: %d records that were appended after the cut, expected %d", how, walk.after,
             after);

    char text[16] = {0};
    size_t len = 0;
    const duralog_status_t status =
        wal_last_checkpoint(wal, (uint8_t *)text, sizeof text - 1, &len, NULL);
    if (status != DURALOG_OK && (status != DURALOG_E_NOT_FOUND || checkpointed != 0))
        fail("%s: the checkpoint %u is not there", how, checkpointed);
    const uint32_t found = status == DURALOG_OK ? (uint32_t)strtoul(text, NULL, 10) : 0;
    if (found != checkpointed && (found != checkpointed + 10 || found > acked))
        fail("%s: found the checkpoint '%s', expected %u", how, text, checkpointed);
    return walk.batch;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (argc > 2) {
        acked = (uint32_t)strtoul(argv[2], NULL, 10);
        checkpointed = acked - acked % 10;
        truncated = acked < 20 ? 0 : acked - acked % 20 - WORKLOAD_KEPT;
        truncating = truncated;
    }
    read_acks();
    open_three_times(argv[1], acked == 0, check);
    return 0;
}
