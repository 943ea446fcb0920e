/*
 * What the checkers of tests/powercut.rs share: how a log that a power cut left is opened.
 */

#ifndef DURALOG_TESTS_POWERCUT_CHECK_H
#define DURALOG_TESTS_POWERCUT_CHECK_H

#include "powercut_acks.h"
#include "powercut_workload.h"
#include <string.h>

/* Looks at all that is in the log, of which `after` records were appended after the cut, and
   returns a number that says what it found. */
typedef uint64_t check_t(const char *how, wal_t *wal, int after);

static int is_after(const wal_record_t *record)
{
    return record->key_len == 5 && memcmp(record->key, "after", 5) == 0;
}

static uint64_t open_and_check(const char *how, const char *path, uint32_t flags, int after,
                               int may_be_missing, check_t *check)
{
    wal_t *wal = NULL;
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = WORKLOAD_SEGMENT_BYTES;
    options.open_flags = flags;
    const duralog_status_t status = wal_open(path, &options, &wal);
    if (status == DURALOG_E_NOT_FOUND && flags == WAL_OPEN_READ_ONLY && may_be_missing)
        return 0;
    if (status != DURALOG_OK)
        fail("%s: wal_open", how);
    const uint64_t found = check(how, wal, after);
    if (flags == 0 && after == 0
        && wal_append(wal, WAL_OP_PUT, (const uint8_t *)"after", 5, NULL, 0, 0, NULL) != DURALOG_OK)
        fail("%s: wal_append", how);
    if (wal_close(wal) != DURALOG_OK)
        fail("%s: wal_close", how);
    return found;
}

/* Read-only first, then for writing, which recovers: both show the same. Then one more record is
   appended, and all is there once more after closing and opening. */
static void open_three_times(const char *path, int may_be_missing, check_t *check)
{
    const uint64_t read =
        open_and_check("read-only", path, WAL_OPEN_READ_ONLY, 0, may_be_missing, check);
    const uint64_t recovered = open_and_check("recovered", path, 0, 0, 0, check);
    if (read != recovered)
        fail("the reader finds %llu, the writer %llu", (unsigned long long)read,
             (unsigned long long)recovered);
    open_and_check("again", path, 0, 1, 0, check);
}

#endif
