/*
 * A reader in a process of its own that follows a log which others write; tests/processes.rs.
 *
 * Usage: tail_reader LOG AFTER_SEQ [slow]
 *
 * Reports, each with one write:
 *     @O                       the log is open
 *     @R seq batch key value   a record, texts without spaces; of the value, the first 64 bytes
 *     @END                     the end for now, once after each record or run of records
 *     @X status                reading failed
 * With "slow", waits for a line on its standard input before each record. Ends after X, or when its
 * standard input ends.
 */

#define _POSIX_C_SOURCE 200809L

#include <duralog.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void report(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (len < 0 || len >= (int)sizeof line || write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(4);
}

static int failed(duralog_status_t status)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    report("@X %s %.1000s\n", duralog_status_name(status), error.message);
    return 0;
}

/* Waits up to so many milliseconds; 0 when standard input has ended. */
static int input_within(int milliseconds)
{
    char line[64];
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, milliseconds) <= 0)
        return 1;
    return read(STDIN_FILENO, line, 1) > 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int slow = argc > 3;
    wal_options_t options = WAL_OPTIONS_INIT;
    options.open_flags = WAL_OPEN_READ_ONLY;
    wal_t *wal = NULL;
    wal_cursor_t *cursor = NULL;
    duralog_status_t status = wal_open(argv[1], &options, &wal);
    if (status != DURALOG_OK)
        return failed(status);
    status = wal_cursor_open(wal, strtoull(argv[2], NULL, 10), 0, &cursor);
    if (status != DURALOG_OK)
        return failed(status);
    report("@O\n");
    int at_end = 0;
    while (input_within(slow && !at_end ? 60000 : at_end)) {
        wal_record_t record;
        status = wal_cursor_next(cursor, &record);
        if (status == DURALOG_END) {
            if (!at_end)
                report("@END\n");
            at_end = 1;
            continue;
        }
        if (status != DURALOG_OK)
            return failed(status);
        at_end = 0;
        report("@R %" PRIu64 " %" PRIu64 " %.*s %.*s\n", record.seq, record.batch_id,
               (int)record.key_len, (const char *)record.key, record.value_len < 64 ? (int)record.value_len : 64,
               (const char *)record.value);
    }
    wal_cursor_close(cursor);
    wal_close(wal);
    return 0;
}
