/*
 * The last error: each thread has its own, and it says where. Also the statuses that depend on
 * what others do with the log: BUSY, READ_ONLY, CORRUPT, NOT_A_LOG, FORKED.
 *
 * Run by tests/c_face.rs with an empty directory, also under valgrind.
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[4096];
static char other[4096];

static duralog_status_t append(wal_t *wal, const char *key, const char *value)
{
    return wal_append(wal, WAL_OP_PUT, BYTES(key), strlen(key), BYTES(value), strlen(value), 0,
                      NULL);
}

static wal_t *open_with(const char *directory, uint32_t flags)
{
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_t *wal = NULL;
    options.open_flags = flags;
    GIVES(DURALOG_OK, wal_open(directory, &options, &wal));
    if (wal == NULL)
        exit(1);
    return wal;
}

static void *fail_in_another_thread(void *user_data)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_t *wal = NULL;

    (void)user_data;
    GIVES(DURALOG_OK, duralog_last_error(&error));
    options.open_flags = WAL_OPEN_MUST_EXIST;
    GIVES(DURALOG_E_NOT_FOUND, wal_open(other, &options, &wal));
    GIVES(DURALOG_E_NOT_FOUND, duralog_last_error(&error));
    HOLDS(error.message[0] != '\0' && strstr(error.path, "other") != NULL);
    return NULL;
}

static void each_thread_has_its_own(void)
{
    pthread_t thread;
    duralog_error_t error = DURALOG_ERROR_INIT;
    const char *message;

    GIVES(DURALOG_E_INVALID_ARGUMENT, wal_sync(NULL));
    GIVES(DURALOG_E_INVALID_ARGUMENT, duralog_last_error(&error));
    message = error.message;
    HOLDS(pthread_create(&thread, NULL, fail_in_another_thread, NULL) == 0);
    HOLDS(pthread_join(thread, NULL) == 0);
    GIVES(DURALOG_E_INVALID_ARGUMENT, duralog_last_error(&error));
    HOLDS(error.message == message && strstr(message, "wal") != NULL); /* still borrowed */
}

static void success_keeps_the_last_error(wal_t *wal)
{
    GIVES(DURALOG_E_INVALID_ARGUMENT, wal_append(wal, 0, NULL, 0, NULL, 0, 0, NULL));
    GIVES(DURALOG_OK, wal_sync(wal));
    GIVES(DURALOG_E_INVALID_ARGUMENT, duralog_last_error(NULL));
}

static void second_writer_is_busy(void)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    wal_t *second = NULL;
    GIVES(DURALOG_E_BUSY, wal_open(path, NULL, &second));
    GIVES(DURALOG_E_BUSY, duralog_last_error(&error));
    HOLDS(second == NULL && strlen(error.message) > 10);
}

static void reader_writes_nothing(void)
{
    wal_op_t op;
    uint32_t value_len = 0;
    uint64_t seq = 77;
    wal_t *reader = open_with(path, WAL_OPEN_READ_ONLY);
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;

    memset(&op, 0, sizeof op);
    op.op = WAL_OP_PUT;
    GIVES(DURALOG_E_READ_ONLY, append(reader, "k", "v"));
    GIVES(DURALOG_E_READ_ONLY, wal_append_batch(reader, &op, 1, 0, &seq));
    GIVES(DURALOG_E_READ_ONLY,
          wal_append_batch_packed(reader, 1, NULL, NULL, &value_len, NULL, 0, 0, &seq));
    GIVES(DURALOG_E_READ_ONLY, wal_sync(reader));
    GIVES(DURALOG_E_READ_ONLY, wal_checkpoint(reader, NULL, 0, &seq));
    GIVES(DURALOG_E_READ_ONLY, wal_truncate(reader, 1));
    GIVES(DURALOG_OK, wal_recovery_report(reader, &report));
    HOLDS(seq == 77 && report.repaired == 0);
    GIVES(DURALOG_OK, wal_close(reader));
}

static void child_of_fork_is_told(wal_t *wal)
{
    /* The child tells through a pipe: its exit status is valgrind's, to whom what the parent's other
     * threads held is lost in the child. */
    int ends[2];
    unsigned char failures = 255;
    pid_t child;
    HOLDS(pipe(ends) == 0);
    fflush(stdout);
    fflush(stderr);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        GIVES(DURALOG_E_FORKED, append(wal, "from", "the child"));
        GIVES(DURALOG_E_FORKED, wal_sync(wal));
        GIVES(DURALOG_OK, wal_close(wal));
        failures = (unsigned char)check_failures;
        _exit(write(ends[1], &failures, 1) == 1 ? 0 : 1);
    }
    HOLDS(close(ends[1]) == 0);
    HOLDS(child > 0 && waitpid(child, NULL, 0) == child);
    HOLDS(read(ends[0], &failures, 1) == 1 && failures == 0);
    HOLDS(close(ends[0]) == 0);
    GIVES(DURALOG_OK, append(wal, "from", "the parent"));
    second_writer_is_busy(); /* the child has not given the lock away */
}

/* Changes one byte of the last place in the file where `text` stands. */
static void damage(const char *file, const char *text)
{
    static uint8_t bytes[1 << 17];
    size_t len = strlen(text);
    size_t count, at, found = 0;
    FILE *stream = fopen(file, "r+b");
    HOLDS(stream != NULL);
    if (stream == NULL)
        return;
    count = fread(bytes, 1, sizeof bytes, stream);
    for (at = 0; at + len <= count; at++)
        if (memcmp(bytes + at, text, len) == 0)
            found = at;
    HOLDS(found > 0);
    bytes[found] ^= 0x20;
    HOLDS(fseek(stream, (long)found, SEEK_SET) == 0);
    HOLDS(fwrite(bytes + found, 1, 1, stream) == 1);
    HOLDS(fclose(stream) == 0);
}

static int count_records(void *user_data, const wal_record_t *record)
{
    *(uint64_t *)user_data = record->seq;
    return 0;
}

static void damage_is_named(void)
{
    char file[4200];
    uint64_t damaged_lsn = 0;
    uint64_t last_seq = 0;
    int turn;
    wal_t *wal = open_with(other, WAL_OPEN_MUST_CREATE);
    wal_cursor_t *cursor = NULL;
    wal_record_t record;
    duralog_error_t error = DURALOG_ERROR_INIT;

    GIVES(DURALOG_OK, append(wal, "first", "good"));
    GIVES(DURALOG_OK, append(wal, "second", "TO BE DAMAGED"));
    GIVES(DURALOG_OK, append(wal, "third", "good"));
    GIVES(DURALOG_OK, wal_cursor_open(wal, 1, 0, &cursor));
    GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
    damaged_lsn = record.batch_id;
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
    GIVES(DURALOG_OK, wal_close(wal));

    snprintf(file, sizeof file, "%s/00000000000000000001.wal", other);
    damage(file, "TO BE DAMAGED");

    /* Refused for writing. */
    wal = NULL;
    GIVES(DURALOG_E_CORRUPT, wal_open(other, NULL, &wal));
    GIVES(DURALOG_E_CORRUPT, duralog_last_error(&error));
    HOLDS(wal == NULL);
    HOLDS(error.segment == 1 && error.offset == damaged_lsn && error.lsn == damaged_lsn);
    HOLDS(strstr(error.path, "00000000000000000001.wal") != NULL);

    /* Read up to it. */
    wal = open_with(other, WAL_OPEN_READ_ONLY);
    GIVES(DURALOG_E_CORRUPT, wal_replay(wal, 0, count_records, &last_seq));
    HOLDS(last_seq == 1);
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    GIVES(DURALOG_E_CORRUPT, duralog_last_error(&error));
    HOLDS(error.segment == 1 && error.offset == damaged_lsn && error.lsn == damaged_lsn);
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &cursor));
    GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
    for (turn = 0; turn < 3; turn++) { /* and it stays so */
        wal_page_t page = WAL_PAGE_INIT;
        GIVES(DURALOG_E_CORRUPT, wal_cursor_next(cursor, &record));
        GIVES(DURALOG_E_CORRUPT, wal_cursor_next_page(cursor, 10, &page));
        HOLDS(page.count == 0);
    }
    GIVES(DURALOG_OK, wal_close(wal));
    GIVES(DURALOG_E_CORRUPT, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
}

static void what_is_no_log_is_refused(const char *directory)
{
    char file[4200];
    wal_t *wal = NULL;
    FILE *stream;
    duralog_status_t status;

    snprintf(file, sizeof file, "%s/file", directory);
    stream = fopen(file, "w");
    HOLDS(stream != NULL && fclose(stream) == 0);
    status = wal_open(file, NULL, &wal);
    HOLDS(status == DURALOG_E_NOT_A_LOG || status == DURALOG_E_IO);
    HOLDS(wal == NULL);

    /* A directory with a file that has a segment's name and is none. */
    snprintf(file, sizeof file, "%s/00000000000000000001.wal", directory);
    stream = fopen(file, "w");
    HOLDS(stream != NULL);
    if (stream != NULL) {
        char letters[200];
        memset(letters, 'x', sizeof letters);
        HOLDS(fwrite(letters, 1, sizeof letters, stream) == sizeof letters);
        HOLDS(fclose(stream) == 0);
    }
    GIVES(DURALOG_E_NOT_A_LOG, wal_open(directory, NULL, &wal));
    HOLDS(wal == NULL);
}

int main(int argc, char **argv)
{
    wal_t *wal;
    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/log", argv[1]);
    snprintf(other, sizeof other, "%s/other", argv[1]);

    each_thread_has_its_own();
    wal = open_with(path, WAL_OPEN_MUST_CREATE);
    GIVES(DURALOG_OK, append(wal, "k", "v"));
    success_keeps_the_last_error(wal);
    second_writer_is_busy();
    reader_writes_nothing();
    child_of_fork_is_told(wal);
    GIVES(DURALOG_OK, wal_close(wal));
    damage_is_named();
    what_is_no_log_is_refused(argv[1]);
    return check_result();
}
