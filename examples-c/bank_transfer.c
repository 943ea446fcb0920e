/*
 * A bank that cannot lose or invent money, wherever it dies.
 *
 *     ./bank_transfer mybank 1000      1000 random transfers
 *     ./bank_transfer mybank 0         only count the money
 *
 * A transfer takes from one account and gives to another. The two records are one batch, so replay
 * shows both or neither; balances are not stored anywhere, they are rebuilt by replaying. Memory
 * changes after the commit, never before: it is never ahead of the disk.
 */

#include <duralog.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACCOUNTS = 10, OPENING_BALANCE = 1000 };
enum { OP_CHANGE = WAL_OP_APPLICATION_MIN }; /* key: account; value: what is added to it */

/* In the log as this machine has them; one that moves to others would spell them out in bytes. */
typedef struct change_t {
    uint32_t account;
    int64_t amount;
} change_t;

static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

/* Makes the changes durable together, and only then true in memory. */
static duralog_status_t commit(wal_t *wal, int64_t *balances, const change_t *changes, size_t count)
{
    wal_op_t ops[ACCOUNTS] = {{0}};
    for (size_t i = 0; i < count; i++) {
        ops[i].op = OP_CHANGE;
        ops[i].key = (const uint8_t *)&changes[i].account;
        ops[i].key_len = sizeof changes[i].account;
        ops[i].value = (const uint8_t *)&changes[i].amount;
        ops[i].value_len = sizeof changes[i].amount;
    }
    const duralog_status_t status = wal_append_batch(wal, ops, count, 0, NULL);
    for (size_t i = 0; status == DURALOG_OK && i < count; i++)
        balances[changes[i].account] += changes[i].amount;
    return status;
}

static int apply(void *user_data, const wal_record_t *record)
{
    int64_t *balances = user_data;
    change_t change;
    if (record->op != OP_CHANGE || record->key_len != sizeof change.account
        || record->value_len != sizeof change.amount)
        return 1; /* not a record of ours */
    memcpy(&change.account, record->key, record->key_len);
    memcpy(&change.amount, record->value, record->value_len);
    if (change.account >= ACCOUNTS)
        return 1;
    balances[change.account] += change.amount;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s LOG TRANSFERS\n", argv[0]);
        return 2;
    }
    int64_t balances[ACCOUNTS] = {0};
    wal_t *wal = NULL;
    wal_stat_t stat = WAL_STAT_INIT;
    if (wal_open(argv[1], NULL, &wal) != DURALOG_OK)
        return failed("wal_open");
    const duralog_status_t status = wal_replay(wal, 0, apply, balances);
    if (status == DURALOG_STOPPED) {
        fprintf(stderr, "%s: a record that is not of a bank\n", argv[1]);
        return 1;
    }
    if (status != DURALOG_OK || wal_stat(wal, &stat) != DURALOG_OK)
        return failed("wal_replay");

    if (stat.last_seq == 0) { /* a new bank: all accounts open in one batch */
        change_t opening[ACCOUNTS];
        for (uint32_t i = 0; i < ACCOUNTS; i++)
            opening[i] = (change_t){i, OPENING_BALANCE};
        if (commit(wal, balances, opening, ACCOUNTS) != DURALOG_OK)
            return failed("opening the accounts");
    }

    srand((unsigned)time(NULL));
    for (long i = 0; i < strtol(argv[2], NULL, 10); i++) {
        const uint32_t from = (uint32_t)rand() % ACCOUNTS;
        const uint32_t to = (uint32_t)rand() % ACCOUNTS;
        const int64_t amount = rand() % 100;
        if (from == to || balances[from] < amount)
            continue; /* checked in memory, which is what the log says */
        const change_t transfer[] = {{from, -amount}, {to, amount}};
        if (commit(wal, balances, transfer, 2) != DURALOG_OK)
            return failed("transfer");
    }

    int64_t total = 0;
    for (int i = 0; i < ACCOUNTS; i++) {
        printf("account %d: %" PRId64 "\n", i, balances[i]);
        total += balances[i];
    }
    printf("total: %" PRId64 ", expected %d\n", total, ACCOUNTS * OPENING_BALANCE);
    if (wal_close(wal) != DURALOG_OK)
        return failed("wal_close");
    return total == ACCOUNTS * OPENING_BALANCE ? 0 : 1;
}
