/*
 * What the writers of tests/powercut.rs append, and what its checker therefore expects: batch n
 * holds the same records in C (powercut_writer.c, powercut_check.c) and in Python
 * (powercut_writer.py).
 *
 *     batch n        workload_count(n) records; one record is appended alone
 *     every 10th     then a checkpoint with the text "n"
 *     every 20th     then everything up to batch n - WORKLOAD_KEPT is truncated
 *     every 35th     then the log is closed and opened again, which forgets what is to be recycled
 */

#ifndef DURALOG_TESTS_WORKLOAD_H
#define DURALOG_TESTS_WORKLOAD_H

#include <duralog.h>
#include <stdint.h>
#include <stdio.h>

enum { WORKLOAD_COUNT_MAX = 4, WORKLOAD_VALUE_MAX = 9000, WORKLOAD_KEPT = 7 };

/* Small, so that a short run goes through several segments. */
enum { WORKLOAD_SEGMENT_BYTES = 65536 };

static inline uint32_t workload_count(uint32_t batch)
{
    return 1 + batch * 7 % WORKLOAD_COUNT_MAX;
}

/* What the batches up to this one and their checkpoints take: a batch of several records takes a
   number for its COMMIT too. The last one is the number of the batch's COMMIT, or lone record. */
static inline uint64_t workload_seq(uint32_t batch)
{
    uint64_t seq = 0;
    for (uint32_t n = 1; n <= batch; n++) {
        const uint32_t count = workload_count(n);
        seq += count + (count > 1);
        if (n % 10 == 0 && n < batch)
            seq++;
    }
    return seq;
}

typedef struct workload_record_t {
    char key[32];
    uint8_t value[WORKLOAD_VALUE_MAX];
    size_t key_len;
    size_t value_len;
} workload_record_t;

static inline void workload_record(uint32_t batch, uint32_t index, workload_record_t *out)
{
    out->key_len = (size_t)sprintf(out->key, "%u/%u", (unsigned)batch, (unsigned)index);
    out->value_len = batch * batch * 37 % 1500 + index * 113;
    if (batch % 6 == 0)
        out->value_len = WORKLOAD_VALUE_MAX - index;
    for (size_t k = 0; k < out->value_len; k++)
        out->value[k] = (uint8_t)(batch * 31 + index * 17 + k * 7 + k / 256);
}

/* The same as an operation, which points to it. */
static inline wal_op_t workload_op(const workload_record_t *record)
{
    wal_op_t op = {0};
    op.op = WAL_OP_PUT;
    op.key = (const uint8_t *)record->key;
    op.key_len = record->key_len;
    op.value = record->value;
    op.value_len = record->value_len;
    return op;
}

/* ---- several threads (powercut_threads.c, powercut_check_threads.c) ---- */

enum { WORKLOAD_THREADS = 4 };
/* Batches of a thread that may be on their way when it does not wait. */
enum { WORKLOAD_AHEAD = 3 };

static inline uint32_t workload_thread_count(uint32_t thread, uint32_t batch)
{
    return 1 + (batch + thread) % 3;
}

static inline void workload_thread_record(uint32_t thread, uint32_t batch, uint32_t index,
                                          workload_record_t *out)
{
    workload_record(batch * 5 + thread, index, out);
    out->key_len = (size_t)sprintf(out->key, "%u/%u/%u", (unsigned)thread, (unsigned)batch,
                                   (unsigned)index);
}

#endif
