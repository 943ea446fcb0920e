/*
 * Several threads append to one log at once and share its syncs. Thread t says "ack t n SEQ" when
 * its batch n, whose last sequence number is SEQ, is acknowledged. powercut_check_threads.c knows
 * what is in the batches.
 *
 *     powercut_threads LOG ROUNDS COUNT MODE
 *
 * In every round the log is opened, every thread appends COUNT batches, and the log is closed.
 * Thread 0 makes a checkpoint after every 5th batch, and after every 10th truncates up to the batch
 * that it appended 5 batches before. MODE:
 *
 *     free    each thread tells by itself, at once
 *     bursts  when every thread's append has returned, one thread tells for all: nothing is on its
 *             way at that moment, so nothing at all may be in doubt
 *     flights as free, with up to 4 groups in flight at once
 *     async   as flights; but one thread appends the batches of all without waiting, and asks what
 *             became of each when WORKLOAD_AHEAD batches more of its thread have been appended. It
 *             makes no checkpoints and does not truncate.
 *     early   as free; but what it acknowledges is not durable: a mistake that must be found
 */

#define _POSIX_C_SOURCE 200809L
#include "powercut_workload.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static wal_t *wal;
static uint32_t first, count; /* batches of this round */
static int bursts;
static uint64_t seqs[WORKLOAD_THREADS];
static pthread_barrier_t barrier;

static void must(duralog_status_t status, const char *what)
{
    if (status != DURALOG_OK) {
        duralog_error_t error = DURALOG_ERROR_INIT;
        duralog_last_error(&error);
        fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
        exit(1);
    }
}

static void tell_ack(uint32_t thread, uint32_t batch)
{
    printf("ack %u %u %llu\n", (unsigned)thread, (unsigned)batch, (unsigned long long)seqs[thread]);
    fflush(stdout);
}

static void tell(const char *what, uint64_t seq)
{
    printf("%s %llu\n", what, (unsigned long long)seq);
    fflush(stdout);
}

static void append(uint32_t thread, uint32_t batch, uint64_t *ticket)
{
    workload_record_t records[WORKLOAD_COUNT_MAX];
    wal_op_t ops[WORKLOAD_COUNT_MAX];
    const uint32_t records_count = workload_thread_count(thread, batch);
    for (uint32_t i = 0; i < records_count; i++) {
        workload_thread_record(thread, batch, i, &records[i]);
        ops[i] = workload_op(&records[i]);
    }
    if (ticket != NULL)
        must(wal_append_batch_async(wal, ops, records_count, 0, ticket), "wal_append_batch_async");
    else
        must(wal_append_batch(wal, ops, records_count, 0, &seqs[thread]), "wal_append_batch");
}

static void meet(void)
{
    if (bursts)
        pthread_barrier_wait(&barrier);
}

static void *work(void *number)
{
    const uint32_t thread = *(const uint32_t *)number;
    static uint64_t up_to; /* of thread 0 */
    for (uint32_t batch = first; batch < first + count; batch++) {
        append(thread, batch, NULL);
        meet();
        if (!bursts)
            tell_ack(thread, batch);
        else if (thread == 0)
            for (uint32_t t = 0; t < WORKLOAD_THREADS; t++)
                tell_ack(t, batch);
        if (thread == 0 && batch % 5 == 0) {
            must(wal_checkpoint(wal, (const uint8_t *)"c", 1, NULL), "wal_checkpoint");
            if (batch % 10 == 0) {
                tell("truncating", up_to);
                must(wal_truncate(wal, up_to), "wal_truncate");
                tell("truncated", up_to);
            }
            up_to = seqs[0];
        }
        meet();
    }
    return NULL;
}

static void work_without_waiting(void)
{
    uint64_t tickets[WORKLOAD_AHEAD][WORKLOAD_THREADS];
    for (uint32_t batch = first; batch < first + count + WORKLOAD_AHEAD; batch++)
        for (uint32_t t = 0; t < WORKLOAD_THREADS; t++) {
            uint64_t *ticket = &tickets[batch % WORKLOAD_AHEAD][t];
            if (batch >= first + WORKLOAD_AHEAD) {
                must(wal_wait_ticket(wal, *ticket, -1, &seqs[t], NULL), "wal_wait_ticket");
                tell_ack(t, batch - WORKLOAD_AHEAD);
            }
            if (batch < first + count)
                append(t, batch, ticket);
        }
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    alarm(60); /* what hangs is killed */
    const uint32_t rounds = (uint32_t)strtoul(argv[2], NULL, 10);
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = WORKLOAD_SEGMENT_BYTES;
    options.sync_mode = strcmp(argv[4], "early") == 0 ? WAL_SYNC_MANUAL : WAL_SYNC_EVERY;
    count = (uint32_t)strtoul(argv[3], NULL, 10);
    bursts = strcmp(argv[4], "bursts") == 0;
    const int async = strcmp(argv[4], "async") == 0;
    if (async || strcmp(argv[4], "flights") == 0)
        options.groups_in_flight_max = 4;
    if (pthread_barrier_init(&barrier, NULL, WORKLOAD_THREADS) != 0)
        return 2;
    for (uint32_t round = 0; round < rounds; round++) {
        pthread_t threads[WORKLOAD_THREADS];
        uint32_t numbers[WORKLOAD_THREADS];
        first = 1 + round * count;
        must(wal_open(argv[1], &options, &wal), "wal_open");
        if (async)
            work_without_waiting();
        for (uint32_t t = 0; t < WORKLOAD_THREADS && !async; t++) {
            numbers[t] = t;
            if (pthread_create(&threads[t], NULL, work, &numbers[t]) != 0)
                return 2;
        }
        for (uint32_t t = 0; t < WORKLOAD_THREADS && !async; t++)
            pthread_join(threads[t], NULL);
        must(wal_close(wal), "wal_close");
    }
    return 0;
}
