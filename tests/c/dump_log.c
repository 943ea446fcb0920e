/*
 * Prints all that a reader finds in a log, for tests that compare readers byte for byte.
 *
 * Usage: dump_log LOG
 *
 * Items, integers as 8 bytes little-endian, bytes as length and content:
 *     R  seq, batch id, op (1 byte), key, value   a committed record
 *     C  seq, data                                the newest checkpoint
 *     V  row, end_lsn, next_seq                   how the end was judged
 *     X  message                                  reading stopped here
 *     N                                           there is no log
 *     .                                           the last item
 */

#include <duralog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_u64(uint64_t value)
{
    for (int shift = 0; shift < 64; shift += 8)
        putchar((int)(value >> shift & 0xFF));
}

static void put_bytes(const void *bytes, size_t len)
{
    put_u64(len);
    fwrite(bytes, 1, len, stdout);
}

static int put_record(void *user_data, const wal_record_t *record)
{
    (void)user_data;
    if (record->kind != WAL_KIND_RECORD || record->committed != 1)
        exit(3);
    putchar('R');
    put_u64(record->seq);
    put_u64(record->batch_id);
    putchar(record->op);
    put_bytes(record->key, record->key_len);
    put_bytes(record->value, record->value_len);
    return 0;
}

static void put_error(duralog_status_t status)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    char text[1024];
    snprintf(text, sizeof text, "%s: %s", duralog_status_name(status), error.message);
    putchar('X');
    put_bytes(text, strlen(text));
}

static void put_checkpoint(wal_t *wal)
{
    uint8_t data[4096];
    size_t len;
    uint64_t seq;
    duralog_status_t status = wal_last_checkpoint(wal, data, sizeof data, &len, &seq);
    if (status == DURALOG_E_NOT_FOUND)
        return;
    if (status != DURALOG_OK) {
        put_error(status);
        return;
    }
    putchar('C');
    put_u64(seq);
    put_bytes(data, len);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    wal_options_t options = WAL_OPTIONS_INIT;
    options.open_flags = WAL_OPEN_READ_ONLY;
    wal_t *wal = NULL;
    duralog_status_t status = wal_open(argv[1], &options, &wal);
    if (status == DURALOG_E_NOT_FOUND) {
        putchar('N');
    } else if (status != DURALOG_OK) {
        put_error(status);
    } else {
        status = wal_replay(wal, 0, put_record, NULL);
        if (status != DURALOG_OK)
            put_error(status);
        put_checkpoint(wal);
        wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
        status = wal_recovery_report(wal, &report);
        if (status != DURALOG_OK)
            put_error(status);
        putchar('V');
        put_bytes(report.row, strlen(report.row));
        put_u64(report.end_lsn);
        put_u64(report.next_seq);
        status = wal_close(wal);
        if (status != DURALOG_OK)
            put_error(status);
    }
    putchar('.');
    return fflush(stdout) == 0 ? 0 : 1;
}
