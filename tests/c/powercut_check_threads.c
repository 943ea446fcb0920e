/*
 * Opens a log that a power cut left, as a user would, and compares it with what the threads of
 * powercut_threads.c were promised. $POWERCUT_ACKS names a file of what had been printed before.
 *
 *     powercut_check_threads LOG [AHEAD]
 *
 * Of each thread: every acknowledged batch is there, whole and right, under the sequence number that
 * it was told, unless it was truncated; at most the one that was being appended is there besides (or
 * AHEAD of them); in order, without gaps. Nothing is partial, and records of a batch stand together.
 */

#include "powercut_check.h"

enum { BATCHES_MAX = 1000 };

static uint64_t seqs[WORKLOAD_THREADS][BATCHES_MAX]; /* of acknowledged batches; 0: not one */
static uint32_t acked[WORKLOAD_THREADS];
static uint64_t truncating, truncated;
static uint32_t ahead = 1;

static void read_acks(void)
{
    FILE *file = open_acks();
    char line[64];
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned thread, batch;
        unsigned long long seq;
        if (sscanf(line, "ack %u %u %llu", &thread, &batch, &seq) == 3
            && thread < WORKLOAD_THREADS && batch < BATCHES_MAX) {
            seqs[thread][batch] = seq;
            acked[thread] = batch;
        } else if (sscanf(line, "truncating %llu", &seq) == 1)
            truncating = seq;
        else if (sscanf(line, "truncated %llu", &seq) == 1)
            truncated = seq;
        else
            fail("what is this acknowledgement? %s", line);
    }
    fclose(file);
}

typedef struct walk_t {
    uint32_t last[WORKLOAD_THREADS]; /* batch that came last; 0: none yet */
    unsigned thread, index;          /* of the record that was seen last */
    uint32_t missing;                /* records of its batch that are still to come */
    uint64_t first_seq, batch_id, found;
    int after;
} walk_t;

static int expect(void *user_data, const wal_record_t *record)
{
    static workload_record_t expected;
    walk_t *walk = user_data;
    unsigned thread, batch, index;
    const unsigned long long seq = record->seq;
    if (is_after(record)) {
        walk->after++;
        return 0;
    }
    char key[32] = {0};
    memcpy(key, record->key, record->key_len < 31 ? record->key_len : 31);
    if (sscanf(key, "%u/%u/%u", &thread, &batch, &index) != 3 || thread >= WORKLOAD_THREADS
        || batch >= BATCHES_MAX)
        fail("record %llu has the key '%s'", seq, key);
    const uint32_t count = workload_thread_count(thread, batch);
    if (walk->first_seq == 0)
        walk->first_seq = record->seq;
    if (walk->missing == 0) {
        if (index != 0 || (walk->last[thread] != 0 && batch != walk->last[thread] + 1))
            fail("after batch %u of thread %u comes %s", walk->last[thread], thread, key);
        walk->missing = count;
        walk->batch_id = record->batch_id;
        walk->found++;
    } else if (thread != walk->thread || batch != walk->last[thread] || index != walk->index + 1
               || record->batch_id != walk->batch_id)
        fail("in the middle of batch %u of thread %u comes %s", walk->last[walk->thread],
             walk->thread, key);
    const uint64_t promised = seqs[thread][batch];
    if (promised != 0 && record->seq + count - index != promised)
        fail("%s has the sequence number %llu, its batch ends at %llu", key, seq,
             (unsigned long long)promised);
    workload_thread_record(thread, batch, index, &expected);
    if (expected.value_len != record->value_len
        || memcmp(expected.value, record->value, record->value_len) != 0)
        fail("%s has a wrong value of %zu bytes", key, record->value_len);
    walk->thread = thread;
    walk->index = index;
    walk->last[thread] = batch;
    walk->missing--;
    return 0;
}

static uint64_t check(const char *how, wal_t *wal, int after)
{
    walk_t walk = {{0}, 0, 0, 0, 0, 0, 0, 0};
    if (wal_replay(wal, 0, expect, &walk) != DURALOG_OK)
        fail("%s: replay", how);
    if (walk.missing != 0)
        fail("%s: the last batch lacks %u records", how, walk.missing);
    if (walk.first_seq != 0 && walk.first_seq <= truncated)
        fail("%s: truncated up to %llu, record %llu is there", how, (unsigned long long)truncated,
             (unsigned long long)walk.first_seq);
    for (uint32_t t = 0; t < WORKLOAD_THREADS; t++) {
        const uint64_t last_seq = acked[t] == 0 ? 0 : seqs[t][acked[t]];
        /* The oldest acknowledged batch that must be there was not truncated: those after it follow
           without gaps. If a thread has none at all, its last one was truncated. */
        if (walk.last[t] < acked[t] && last_seq > truncating)
            fail("%s: batch %u of thread %u was acknowledged, the last one there is %u", how,
                 acked[t], t, walk.last[t]);
        if (walk.last[t] > acked[t] + ahead)
            fail("%s: batch %u of thread %u was never appended", how, walk.last[t], t);
    }
    /* No acknowledged record after what was, or was being, truncated is missing at the front. */
    for (uint32_t t = 0; t < WORKLOAD_THREADS; t++)
        for (uint32_t n = 1; n <= acked[t]; n++)
            if (seqs[t][n] > truncating && (walk.first_seq == 0 || seqs[t][n] < walk.first_seq))
                fail("%s: batch %u of thread %u is before the first record, %llu", how, n, t,
                     (unsigned long long)walk.first_seq);
    if (walk.after != after)
        fail("%s: %d records that were appended after the cut, expected %d", how, walk.after,
             after);
    return walk.found;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3)
        return 2;
    if (argc == 3)
        ahead = (uint32_t)strtoul(argv[2], NULL, 10);
    read_acks();
    uint32_t any = 0;
    for (uint32_t t = 0; t < WORKLOAD_THREADS; t++)
        any += acked[t];
    open_three_times(argv[1], any == 0, check);
    return 0;
}
