/*
 * One thread that keeps the disk busy: batches are handed over without waiting for each, and the
 * program learns through a file descriptor which of them are safe.
 *
 *     ./async_append mylog 1000
 *
 * Each batch has two records, an order and its payment. At most 64 batches are on their way at once.
 */

#define _POSIX_C_SOURCE 200809L
#include <duralog.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNDER_WAY_MAX = 64 };

static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

/* Hands over a batch of an order and its payment. */
static duralog_status_t hand_over(wal_t *wal, uint64_t number, uint64_t *out_ticket)
{
    char order[32];
    char payment[32];
    wal_op_t ops[2];

    sprintf(order, "order %" PRIu64, number);
    sprintf(payment, "payment %" PRIu64, number);
    memset(ops, 0, sizeof ops);
    ops[0].op = ops[1].op = WAL_OP_PUT;
    ops[0].value = (const uint8_t *)order;
    ops[0].value_len = strlen(order);
    ops[1].value = (const uint8_t *)payment;
    ops[1].value_len = strlen(payment);
    return wal_append_batch_async(wal, ops, 2, 0, out_ticket);
}

/* Waits until tickets were settled. A program with an event loop watches the descriptor there. */
static duralog_status_t wait_for_news(wal_t *wal)
{
    struct pollfd watched = {0, POLLIN, 0};
    const duralog_status_t status = wal_ticket_fd(wal, &watched.fd);
    if (status == DURALOG_OK)
        poll(&watched, 1, 1000);
    return status;
}

static int run(wal_t *wal, uint64_t count)
{
    uint64_t given = 0; /* tickets given out */
    uint64_t safe = 0;  /* tickets up to this one are durable */
    uint64_t seq = 0;

    while (safe < count) {
        while (given < count && given - safe < UNDER_WAY_MAX) {
            if (hand_over(wal, given + 1, &given) != DURALOG_OK)
                return failed("wal_append_batch_async");
        }
        if (wait_for_news(wal) != DURALOG_OK)
            return failed("wal_ticket_fd");
        while (safe < given) {
            const duralog_status_t status = wal_wait_ticket(wal, safe + 1, 0, &seq, NULL);
            if (status == DURALOG_E_TIMEOUT)
                break;
            if (status != DURALOG_OK)
                return failed("wal_wait_ticket");
            safe++;
        }
    }
    printf("%" PRIu64 " batches are durable, the last committed as %" PRIu64 "\n", safe, seq);
    return 0;
}

int main(int argc, char **argv)
{
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_t *wal = NULL;
    int bad;

    if (argc != 3) {
        fprintf(stderr, "usage: %s LOG BATCHES\n", argv[0]);
        return 2;
    }
    options.groups_in_flight_max = 4;
    if (wal_open(argv[1], &options, &wal) != DURALOG_OK)
        return failed("wal_open");
    bad = run(wal, strtoull(argv[2], NULL, 10));
    if (wal_close(wal) != DURALOG_OK)
        bad = failed("wal_close");
    return bad;
}
