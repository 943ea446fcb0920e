/*
 * A handle in a process that forks: the child's copy is of no use and says so, whatever the child
 * does with it; the parent goes on unharmed, and its lock lives and dies with it alone.
 *
 * Usage: fork LOG [mapped]
 * mapped: with mapped appends, whose memory comes along into the child.
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int count_records(void *user_data, const wal_record_t *record)
{
    (void)record;
    ++*(int *)user_data;
    return 0;
}

static int ignore(void *user_data, const wal_record_t *record)
{
    (void)user_data;
    (void)record;
    return 0;
}

static void in_child(const char *path, wal_t *wal, wal_cursor_t *cursor)
{
    uint8_t data[8];
    size_t len;
    uint64_t seq;
    int32_t batch_status;
    wal_record_t record;
    wal_page_t page = WAL_PAGE_INIT;
    wal_stat_t stat = WAL_STAT_INIT;
    wal_cursor_t *other = NULL;
    wal_op_t op = {BYTES("k"), BYTES("v"), 1, 1, WAL_OP_PUT, {0}};
    GIVES(DURALOG_E_FORKED,
          wal_append(wal, WAL_OP_PUT, BYTES("k"), 1, BYTES("child"), 5, 0, &seq));
    GIVES(DURALOG_E_FORKED, wal_append_batch(wal, &op, 1, 0, &seq));
    GIVES(DURALOG_E_FORKED, wal_sync(wal));
    GIVES(DURALOG_E_FORKED, wal_checkpoint(wal, data, 0, &seq));
    GIVES(DURALOG_E_FORKED, wal_truncate(wal, 1));
    GIVES(DURALOG_E_FORKED, wal_replay(wal, 0, ignore, NULL));
    GIVES(DURALOG_E_FORKED, wal_cursor_open(wal, 0, 0, &other));
    GIVES(DURALOG_E_FORKED, wal_stat(wal, &stat));
    GIVES(DURALOG_E_FORKED, wal_last_checkpoint(wal, data, sizeof data, &len, &seq));
    GIVES(DURALOG_E_FORKED, wal_batch_status(wal, 4096, &batch_status));
    GIVES(DURALOG_E_FORKED, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_E_FORKED, wal_cursor_next_page(cursor, 1, &page));
    /* The log is the parent's for writing; reading needs a handle of one's own. */
    wal_t *own = NULL;
    GIVES(DURALOG_E_BUSY, wal_open(path, NULL, &own));
    duralog_error_t error = DURALOG_ERROR_INIT;
    char parent[32];
    snprintf(parent, sizeof parent, "process %ld ", (long)getppid());
    HOLDS(duralog_last_error(&error) == DURALOG_E_BUSY);
    HOLDS(strstr(error.message, parent) != NULL);
    wal_options_t options = WAL_OPTIONS_INIT;
    options.open_flags = WAL_OPEN_READ_ONLY;
    GIVES(DURALOG_OK, wal_open(path, &options, &own));
    int count = 0;
    GIVES(DURALOG_OK, wal_replay(own, 0, count_records, &count));
    HOLDS(count == 1);
    GIVES(DURALOG_OK, wal_close(own));
    /* Releases the child's copy and neither the parent's lock nor its log. */
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
    GIVES(DURALOG_OK, wal_close(wal));
    GIVES(DURALOG_E_BUSY, wal_open(path, NULL, &own));
}

static int ended_well(pid_t child)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    const char *path = argv[1];
    wal_t *wal = NULL, *second = NULL;
    wal_cursor_t *cursor = NULL;
    uint64_t seq = 0;
    /* The mode with a thread behind it, which does not come along into a child. */
    wal_options_t options = WAL_OPTIONS_INIT;
    options.sync_mode = WAL_SYNC_INTERVAL;
    options.sync_interval_ms = 5;
    options.open_flags = argc > 2 ? WAL_OPEN_MAPPED_APPENDS : 0;
    GIVES(DURALOG_OK, wal_open(path, &options, &wal));
    GIVES(DURALOG_OK, wal_append(wal, WAL_OP_PUT, BYTES("k"), 1, BYTES("1"), 1, 0, &seq));
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &cursor));
    pid_t child = fork();
    if (child == 0) {
        in_child(path, wal, cursor);
        _exit(check_result());
    }
    HOLDS(ended_well(child));
    GIVES(DURALOG_OK, wal_append(wal, WAL_OP_PUT, BYTES("k"), 1, BYTES("2"), 1, 0, &seq));
    HOLDS(seq == 2);
    GIVES(DURALOG_E_BUSY, wal_open(path, NULL, &second));
    int count = 0;
    GIVES(DURALOG_OK, wal_replay(wal, 0, count_records, &count));
    HOLDS(count == 2);

    /* A child that merely lives, and never heard of the log, does not keep it locked when the
     * parent closes it. */
    int pipe_ends[2];
    HOLDS(pipe(pipe_ends) == 0);
    child = fork();
    if (child == 0) {
        char byte;
        close(pipe_ends[1]);
        _exit(read(pipe_ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(pipe_ends[0]);
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
    GIVES(DURALOG_OK, wal_close(wal));
    GIVES(DURALOG_OK, wal_open(path, NULL, &second));

    /* A child of a child may open the log anew when nobody else has it. */
    GIVES(DURALOG_OK, wal_close(second));
    close(pipe_ends[1]);
    HOLDS(ended_well(child));
    child = fork();
    if (child == 0) {
        wal_t *own = NULL;
        GIVES(DURALOG_OK, wal_open(path, &options, &own));
        GIVES(DURALOG_OK, wal_append(own, WAL_OP_PUT, BYTES("k"), 1, BYTES("3"), 1, 0, &seq));
        HOLDS(seq == 3);
        /* Its own thread syncs for it. */
        wal_stat_t stat = WAL_STAT_INIT;
        struct timespec pause = {0, 5000000};
        for (int round = 0; round < 1000; round++) {
            GIVES(DURALOG_OK, wal_stat(own, &stat));
            if (stat.durable_lsn == stat.written_lsn)
                break;
            nanosleep(&pause, NULL);
        }
        HOLDS(stat.durable_lsn == stat.written_lsn);
        GIVES(DURALOG_OK, wal_close(own));
        _exit(check_result());
    }
    HOLDS(ended_well(child));
    GIVES(DURALOG_OK, wal_open(path, NULL, &wal));
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    GIVES(DURALOG_OK, wal_recovery_report(wal, &report));
    HOLDS(report.repaired == 0);
    count = 0;
    GIVES(DURALOG_OK, wal_replay(wal, 0, count_records, &count));
    HOLDS(count == 3);
    GIVES(DURALOG_OK, wal_close(wal));
    return check_result();
}
