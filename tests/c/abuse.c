/*
 * Every function of the C face with arguments it must refuse: NULL, zero and huge lengths, unknown
 * flags and numbers, structs of the wrong size. Each refusal is the status that the header says,
 * writes no output, and leaves the log as it was; nothing crashes.
 *
 * Run by tests/c_face.rs with an empty directory, also under valgrind.
 */

#include "check.h"

/* Memory that must stay as it is. */
static const uint64_t UNTOUCHED = 0xA5A5A5A5A5A5A5A5u;

static uint8_t small[64];

static const size_t HUGE_LENGTHS[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1};
#define HUGE_COUNT (sizeof HUGE_LENGTHS / sizeof HUGE_LENGTHS[0])

#define INVALID DURALOG_E_INVALID_ARGUMENT
#define RECORD_LEN_MAX 67108852u
#define CHECKPOINT_LEN_MAX 67108864u

static void versions_and_names(void)
{
    HOLDS(strlen(duralog_library_version()) >= 5);
    HOLDS(duralog_abi_version() == DURALOG_ABI_VERSION);
    HOLDS(duralog_format_version() >> 16 == 1);
    HOLDS(strcmp(duralog_status_name(DURALOG_OK), "DURALOG_OK") == 0);
    HOLDS(strcmp(duralog_status_name(DURALOG_E_BUSY), "DURALOG_E_BUSY") == 0);
    HOLDS(strcmp(duralog_status_name(INT32_MIN), "DURALOG_E_UNKNOWN") == 0);
    HOLDS(strcmp(duralog_status_name(INT32_MAX), "DURALOG_E_UNKNOWN") == 0);
}

static void last_error_of_nothing(void)
{
    duralog_error_t error;
    memset(&error, 0xA5, sizeof error);
    GIVES(INVALID, duralog_last_error(&error)); /* struct_size is garbage */
    GIVES(DURALOG_OK, duralog_last_error(NULL));
    error.struct_size = sizeof error;
    GIVES(DURALOG_OK, duralog_last_error(&error));
    HOLDS(error.status == DURALOG_OK && error.lsn == 0);
    HOLDS(error.message != NULL && error.message[0] == '\0');
    HOLDS(error.path != NULL && error.path[0] == '\0');
}

static void last_error_sizes(void)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    GIVES(INVALID, wal_sync(NULL));
    error.struct_size = 0;
    GIVES(INVALID, duralog_last_error(&error));
    error.struct_size = sizeof error - 1;
    error.status = 77;
    GIVES(INVALID, duralog_last_error(&error));
    HOLDS(error.status == 77);
    error.struct_size = UINT32_MAX;
    GIVES(INVALID, duralog_last_error(&error));
    error.struct_size = sizeof error;
    GIVES(INVALID, duralog_last_error(&error));
    HOLDS(error.status == INVALID && strstr(error.message, "wal") != NULL);
}

static void open_refuses(const char *path, const char *absent)
{
    wal_t *const kept = (wal_t *)small;
    wal_t *wal = kept;
    wal_options_t options = WAL_OPTIONS_INIT;
    struct {
        wal_options_t options;
        uint64_t more[2];
    } newer = {WAL_OPTIONS_INIT, {0, 0}};
    static const uint32_t bad_sizes[] = {0, 1, 4, sizeof(wal_options_t) - 1, 4097, UINT32_MAX};
    static const uint32_t bad_flags[] = {16, 5, 6, 7, 0x80000000u, UINT32_MAX};
    static const uint32_t bad_modes[] = {3, 0x100, UINT32_MAX};
    static const uint64_t bad_segments[] = {1, 65535, 4294967297u, UINT64_MAX};
    size_t i;

    GIVES(INVALID, wal_open(NULL, NULL, &wal));
    GIVES(INVALID, wal_open("", NULL, &wal));
    GIVES(INVALID, wal_open(path, NULL, NULL));
    GIVES(INVALID, wal_open(NULL, NULL, NULL));
    for (i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        options.struct_size = bad_sizes[i];
        GIVES(INVALID, wal_open(path, &options, &wal));
    }
    options.struct_size = sizeof options;
    for (i = 0; i < sizeof bad_flags / sizeof bad_flags[0]; i++) {
        options.open_flags = bad_flags[i];
        GIVES(INVALID, wal_open(path, &options, &wal));
    }
    options.open_flags = WAL_OPEN_MAPPED_APPENDS; /* with WAL_SYNC_EVERY */
    GIVES(INVALID, wal_open(path, &options, &wal));
    options.open_flags = 0;
    for (i = 0; i < sizeof bad_modes / sizeof bad_modes[0]; i++) {
        options.sync_mode = bad_modes[i];
        GIVES(INVALID, wal_open(path, &options, &wal));
        options.sync_mode = 0;
        options.recovery_policy = bad_modes[i];
        GIVES(INVALID, wal_open(path, &options, &wal));
        options.recovery_policy = 0;
    }
    for (i = 0; i < sizeof bad_segments / sizeof bad_segments[0]; i++) {
        options.segment_bytes_max = bad_segments[i];
        GIVES(INVALID, wal_open(path, &options, &wal));
    }
    options.segment_bytes_max = 0;
    options.groups_in_flight_max = 15;
    GIVES(INVALID, wal_open(path, &options, &wal));
    options.groups_in_flight_max = 0;
    options.buffer_bytes_max = 1; /* with WAL_SYNC_EVERY */
    GIVES(INVALID, wal_open(path, &options, &wal));
    options.sync_mode = WAL_SYNC_MANUAL;
    options.buffer_bytes_max = (8 << 20) + 1;
    GIVES(INVALID, wal_open(path, &options, &wal));
    options.sync_mode = WAL_SYNC_EVERY;
    options.buffer_bytes_max = 0;
    options.reserved = 1;
    GIVES(INVALID, wal_open(path, &options, &wal));
    options.reserved = 0;
    newer.options.struct_size = sizeof newer;
    newer.more[1] = 1;
    GIVES(INVALID, wal_open(path, &newer.options, &wal));

    options.open_flags = WAL_OPEN_MUST_EXIST;
    GIVES(DURALOG_E_NOT_FOUND, wal_open(absent, &options, &wal));
    options.open_flags = WAL_OPEN_READ_ONLY;
    GIVES(DURALOG_E_NOT_FOUND, wal_open(absent, &options, &wal));
    HOLDS(wal == kept);

    /* A newer program that sets nothing this library does not know is served. */
    newer.more[1] = 0;
    newer.options.open_flags = WAL_OPEN_MUST_CREATE;
    GIVES(DURALOG_OK, wal_open(path, &newer.options, &wal));
    GIVES(DURALOG_OK, wal_close(wal));
    wal = kept;
    GIVES(DURALOG_E_EXISTS, wal_open(path, &newer.options, &wal));
    HOLDS(wal == kept);
}

static int never(void *user_data, const wal_record_t *record)
{
    (void)record;
    *(int *)user_data += 1;
    return 0;
}

static void null_handles(void)
{
    uint64_t seq = UNTOUCHED;
    size_t len = 7;
    int32_t batch_status = 7;
    int calls = 0;
    wal_cursor_t *cursor = NULL;
    wal_record_t record;
    wal_page_t page = WAL_PAGE_INIT;
    wal_stat_t stat = WAL_STAT_INIT;
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    wal_op_t op;
    uint32_t value_len = 1;

    memset(&record, 0, sizeof record);
    memset(&op, 0, sizeof op);
    op.op = WAL_OP_PUT;
    GIVES(INVALID, wal_append(NULL, WAL_OP_PUT, small, 1, small, 1, 0, &seq));
    GIVES(INVALID, wal_append_batch(NULL, &op, 1, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(NULL, 1, NULL, NULL, &value_len, small, 1, 0, &seq));
    GIVES(INVALID, wal_append_batch_async(NULL, &op, 1, 0, &seq));
    GIVES(INVALID,
          wal_append_batch_packed_async(NULL, 1, NULL, NULL, &value_len, small, 1, 0, &seq));
    GIVES(INVALID, wal_wait_ticket(NULL, 1, 0, &seq, &seq));
    GIVES(INVALID, wal_wait_durable(NULL, 1, 0));
    GIVES(INVALID, wal_ticket_fd(NULL, &batch_status));
    GIVES(INVALID, wal_sync(NULL));
    GIVES(INVALID, wal_checkpoint(NULL, small, 1, &seq));
    GIVES(INVALID, wal_last_checkpoint(NULL, small, sizeof small, &len, &seq));
    GIVES(INVALID, wal_truncate(NULL, 0));
    GIVES(INVALID, wal_batch_status(NULL, 4096, &batch_status));
    GIVES(INVALID, wal_replay(NULL, 0, never, &calls));
    GIVES(INVALID, wal_cursor_open(NULL, 0, 0, &cursor));
    GIVES(INVALID, wal_cursor_next(NULL, &record));
    GIVES(INVALID, wal_cursor_next_page(NULL, 1, &page));
    GIVES(INVALID, wal_stat(NULL, &stat));
    GIVES(INVALID, wal_recovery_report(NULL, &report));
    HOLDS(seq == UNTOUCHED && len == 7 && batch_status == 7 && calls == 0 && cursor == NULL);
    GIVES(DURALOG_OK, wal_close(NULL));
    GIVES(DURALOG_OK, wal_cursor_close(NULL));
}

static void appending_without_waiting_refuses(wal_t *wal)
{
    static const uint32_t lens[] = {1, 2};
    static uint8_t large[(4 << 20) + 1];
    wal_op_t op = {0};
    wal_stat_t stat = WAL_STAT_INIT;
    uint64_t ticket = UNTOUCHED;
    uint64_t seq = UNTOUCHED;
    int32_t fd = -1;

    op.op = WAL_OP_PUT;
    GIVES(DURALOG_E_EMPTY_BATCH, wal_append_batch_async(wal, NULL, 0, 0, &ticket));
    GIVES(INVALID, wal_append_batch_async(wal, NULL, 1, 0, &ticket));
    GIVES(INVALID, wal_append_batch_async(wal, &op, SIZE_MAX, 0, &ticket));
    GIVES(INVALID, wal_append_batch_async(wal, &op, 1, 2, &ticket));
    GIVES(INVALID, wal_append_batch_async(wal, &op, 1, 0, NULL));
    GIVES(INVALID, wal_append_batch_packed_async(wal, 2, NULL, NULL, lens, small, 4, 0, &ticket));
    GIVES(INVALID, wal_append_batch_packed_async(wal, 2, NULL, NULL, lens, NULL, 3, 0, &ticket));
    GIVES(INVALID, wal_append_batch_packed_async(wal, 2, NULL, NULL, lens, small, 3, 0, NULL));
    op.value = large;
    op.value_len = sizeof large;
    GIVES(DURALOG_E_TOO_LARGE, wal_append_batch_async(wal, &op, 1, 0, &ticket));
    HOLDS(ticket == UNTOUCHED);
    GIVES(INVALID, wal_wait_ticket(wal, 0, 0, &seq, NULL));
    GIVES(INVALID, wal_wait_ticket(wal, 1, 0, &seq, NULL));
    GIVES(INVALID, wal_wait_ticket(wal, UINT64_MAX, -1, &seq, &seq));
    HOLDS(seq == UNTOUCHED);
    GIVES(INVALID, wal_ticket_fd(wal, NULL));
    GIVES(DURALOG_OK, wal_ticket_fd(wal, &fd));
    HOLDS(fd >= 0);
    GIVES(DURALOG_OK, wal_stat(wal, &stat));
    GIVES(DURALOG_OK, wal_wait_durable(wal, stat.durable_lsn, 0));
    GIVES(DURALOG_E_TIMEOUT, wal_wait_durable(wal, UINT64_MAX, 0));
    GIVES(DURALOG_E_TIMEOUT, wal_wait_durable(wal, UINT64_MAX, 1));
}

static void append_refuses(wal_t *wal)
{
    static const uint8_t reserved_ops[] = {0, 3, 15, 16, 127};
    uint64_t seq = UNTOUCHED;
    size_t i;

    GIVES(INVALID, wal_append(wal, WAL_OP_PUT, NULL, 1, small, 1, 0, &seq));
    GIVES(INVALID, wal_append(wal, WAL_OP_PUT, small, 1, NULL, 1, 0, &seq));
    for (i = 0; i < HUGE_COUNT; i++) {
        GIVES(INVALID, wal_append(wal, WAL_OP_PUT, small, HUGE_LENGTHS[i], small, 1, 0, &seq));
        GIVES(INVALID, wal_append(wal, WAL_OP_PUT, small, 1, small, HUGE_LENGTHS[i], 0, &seq));
        GIVES(INVALID, wal_append(wal, WAL_OP_PUT, NULL, HUGE_LENGTHS[i], NULL, 0, 0, &seq));
    }
    GIVES(DURALOG_E_TOO_LARGE, wal_append(wal, WAL_OP_PUT, small, RECORD_LEN_MAX, small, 1, 0, &seq));
    GIVES(DURALOG_E_TOO_LARGE,
          wal_append(wal, WAL_OP_PUT, NULL, 0, small, RECORD_LEN_MAX + 1, 0, &seq));
    GIVES(DURALOG_E_TOO_LARGE,
          wal_append(wal, WAL_OP_PUT, small, SIZE_MAX / 4, small, SIZE_MAX / 4, 0, &seq));
    GIVES(INVALID, wal_append(wal, WAL_OP_PUT, small, 1, small, 1, 2, &seq));
    GIVES(INVALID, wal_append(wal, WAL_OP_PUT, small, 1, small, 1, UINT32_MAX, &seq));
    for (i = 0; i < sizeof reserved_ops; i++)
        GIVES(INVALID, wal_append(wal, reserved_ops[i], small, 1, small, 1, 0, &seq));
    HOLDS(seq == UNTOUCHED);
}

static void batch_refuses(wal_t *wal)
{
    uint64_t seq = UNTOUCHED;
    wal_op_t ops[3];
    size_t i;

    memset(ops, 0, sizeof ops);
    for (i = 0; i < 3; i++)
        ops[i].op = WAL_OP_PUT;
    GIVES(DURALOG_E_EMPTY_BATCH, wal_append_batch(wal, ops, 0, 0, &seq));
    GIVES(DURALOG_E_EMPTY_BATCH, wal_append_batch(wal, NULL, 0, 0, &seq));
    GIVES(INVALID, wal_append_batch(wal, NULL, 3, 0, &seq));
    GIVES(INVALID, wal_append_batch(wal, ops, 3, 4, &seq));
    for (i = 0; i < HUGE_COUNT; i++)
        GIVES(INVALID, wal_append_batch(wal, ops, HUGE_LENGTHS[i], 0, &seq));
    GIVES(INVALID, wal_append_batch(wal, ops, SIZE_MAX / sizeof ops[0] + 2, 0, &seq));
    GIVES(INVALID, wal_append_batch(wal, (const wal_op_t *)(const void *)(small + 1), 1, 0, &seq));

    ops[2].key_len = 1;
    GIVES(INVALID, wal_append_batch(wal, ops, 3, 0, &seq));
    {
        duralog_error_t error = DURALOG_ERROR_INIT;
        GIVES(INVALID, duralog_last_error(&error));
        HOLDS(strstr(error.message, "record 2") != NULL);
    }
    ops[2].key_len = 0;
    ops[1].value = small;
    ops[1].value_len = RECORD_LEN_MAX + 1;
    GIVES(DURALOG_E_TOO_LARGE, wal_append_batch(wal, ops, 3, 0, &seq));
    ops[1].value_len = SIZE_MAX;
    GIVES(INVALID, wal_append_batch(wal, ops, 3, 0, &seq));
    ops[1].value_len = 0;
    ops[0].reserved[6] = 1;
    GIVES(INVALID, wal_append_batch(wal, ops, 3, 0, &seq));
    ops[0].reserved[6] = 0;
    ops[0].op = 0;
    GIVES(INVALID, wal_append_batch(wal, ops, 3, 0, &seq));
    HOLDS(seq == UNTOUCHED);
}

static void packed_refuses(wal_t *wal)
{
    static const uint8_t good_ops[] = {WAL_OP_PUT, 200};
    static const uint8_t bad_ops[] = {WAL_OP_PUT, 0};
    uint32_t key_lens[] = {1, 2, 0};
    uint32_t value_lens[] = {3, 4, 0};
    uint32_t too_large[] = {RECORD_LEN_MAX, 0xFFFFFFFFu};
    const uint32_t *unaligned = (const uint32_t *)(const void *)((const char *)key_lens + 1);
    uint64_t seq = UNTOUCHED;
    size_t i;

    GIVES(DURALOG_E_EMPTY_BATCH,
          wal_append_batch_packed(wal, 0, NULL, NULL, NULL, NULL, 0, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 0, NULL, NULL, NULL, small, 1, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, key_lens, NULL, small, 10, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, key_lens, value_lens, NULL, 10, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, key_lens, value_lens, small, 9, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, key_lens, value_lens, small, 11, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, NULL, value_lens, small, 10, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, unaligned, value_lens, small, 10, 0, &seq));
    GIVES(INVALID, wal_append_batch_packed(wal, 2, NULL, key_lens, value_lens, small, 10, 2, &seq));
    GIVES(INVALID,
          wal_append_batch_packed(wal, 2, bad_ops, key_lens, value_lens, small, 10, 0, &seq));
    for (i = 0; i < HUGE_COUNT; i++) {
        const size_t huge = HUGE_LENGTHS[i];
        GIVES(INVALID,
              wal_append_batch_packed(wal, huge, good_ops, key_lens, value_lens, small, 10, 0, &seq));
        GIVES(INVALID,
              wal_append_batch_packed(wal, 2, good_ops, key_lens, value_lens, small, huge, 0, &seq));
    }
    GIVES(DURALOG_E_TOO_LARGE,
          wal_append_batch_packed(wal, 2, NULL, key_lens, too_large, small, RECORD_LEN_MAX, 0, &seq));
    GIVES(DURALOG_E_TOO_LARGE, wal_append_batch_packed(wal, 1, NULL, NULL, too_large + 1, small,
                                                       0xFFFFFFFFu, 0, &seq));
    HOLDS(seq == UNTOUCHED);
}

static void checkpoint_refuses(wal_t *wal)
{
    uint64_t seq = UNTOUCHED;
    size_t len = 7;
    size_t i;

    GIVES(INVALID, wal_checkpoint(wal, NULL, 1, &seq));
    for (i = 0; i < HUGE_COUNT; i++)
        GIVES(INVALID, wal_checkpoint(wal, small, HUGE_LENGTHS[i], &seq));
    GIVES(DURALOG_E_TOO_LARGE, wal_checkpoint(wal, small, CHECKPOINT_LEN_MAX + 1, &seq));
    GIVES(DURALOG_E_NOT_FOUND, wal_last_checkpoint(wal, small, sizeof small, &len, &seq));
    HOLDS(seq == UNTOUCHED && len == 7);
}

static void checkpoint_reports_the_length_it_needs(wal_t *wal)
{
    uint64_t seq = UNTOUCHED;
    uint64_t given = 0;
    size_t len = 7;
    uint8_t buffer[5] = {9, 9, 9, 9, 9};

    GIVES(DURALOG_OK, wal_checkpoint(wal, BYTES("abcd"), 4, &given));
    GIVES(INVALID, wal_last_checkpoint(wal, NULL, 4, &len, &seq));
    GIVES(INVALID, wal_last_checkpoint(wal, buffer, sizeof buffer, NULL, &seq));
    HOLDS(len == 7);
    GIVES(DURALOG_E_BUFFER_TOO_SMALL, wal_last_checkpoint(wal, NULL, 0, &len, &seq));
    HOLDS(len == 4 && seq == UNTOUCHED);
    len = 7;
    GIVES(DURALOG_E_BUFFER_TOO_SMALL, wal_last_checkpoint(wal, buffer, 3, &len, &seq));
    HOLDS(len == 4 && seq == UNTOUCHED && buffer[0] == 9);
    GIVES(DURALOG_OK, wal_last_checkpoint(wal, buffer, 4, &len, &seq));
    HOLDS(len == 4 && seq == given && memcmp(buffer, "abcd\x09", 5) == 0);
    GIVES(DURALOG_OK, wal_checkpoint(wal, NULL, 0, NULL));
    GIVES(DURALOG_OK, wal_last_checkpoint(wal, NULL, 0, &len, NULL));
    HOLDS(len == 0);
}

static void reading_refuses(wal_t *wal)
{
    wal_cursor_t *const kept = (wal_cursor_t *)small;
    wal_cursor_t *cursor = kept;
    wal_record_t record;
    wal_page_t page = WAL_PAGE_INIT;
    int calls = 0;
    static const uint32_t bad_sizes[] = {0, 8, sizeof(wal_page_t) - 1, 4097, UINT32_MAX};
    size_t i;

    GIVES(INVALID, wal_replay(wal, 0, NULL, NULL));
    GIVES(DURALOG_OK, wal_replay(wal, UINT64_MAX, never, &calls));
    HOLDS(calls == 0);
    GIVES(INVALID, wal_cursor_open(wal, 0, 4, &cursor));
    GIVES(INVALID, wal_cursor_open(wal, 0, UINT32_MAX, &cursor));
    GIVES(INVALID, wal_cursor_open(wal, 0, 0, NULL));
    HOLDS(cursor == kept);
    GIVES(DURALOG_OK, wal_cursor_open(wal, UINT64_MAX, WAL_CURSOR_RAW, &cursor));
    GIVES(DURALOG_END, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));

    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &cursor));
    GIVES(INVALID, wal_cursor_next(cursor, NULL));
    GIVES(INVALID, wal_cursor_next_page(cursor, 1, NULL));
    GIVES(INVALID, wal_cursor_next_page(cursor, 0, &page));
    for (i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        page.struct_size = bad_sizes[i];
        GIVES(INVALID, wal_cursor_next_page(cursor, 1, &page));
    }
    HOLDS(page.bytes == NULL && page.count == 0);
    page.struct_size = sizeof page;
    GIVES(DURALOG_OK, wal_cursor_next_page(cursor, SIZE_MAX, &page));
    HOLDS(page.struct_size == sizeof page && page.count >= 1);
    GIVES(DURALOG_END, wal_cursor_next_page(cursor, SIZE_MAX, &page));
    GIVES(DURALOG_END, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
}

static void parts_are_joined_or_refused(void)
{
    static const uint8_t bytes[] = "abcdefgh";
    static const uint32_t begin[] = {6, 0, 3, 8};
    static const uint32_t end[] = {8, 3, 3, 8};
    static const uint32_t beyond[] = {8, 3, 3, 9};
    uint8_t buffer[16];
    uint32_t lens[4];
    size_t len = 77;

    memset(buffer, '.', sizeof buffer);
    memset(lens, 0xFF, sizeof lens);
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, beyond, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 7, begin, end, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, end, begin, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(NULL, 8, begin, end, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, NULL, end, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, NULL, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, SIZE_MAX, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, SIZE_MAX, begin, end, 4, -1, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, 4, -2, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, 4, 256, buffer, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, 4, -1, NULL, 16, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, 4, -1, buffer, SIZE_MAX, lens, &len));
    GIVES(INVALID, duralog_spans_join(bytes, 8, begin, end, 4, -1, buffer, 16, lens, NULL));
    HOLDS(len == 77);
    GIVES(DURALOG_E_BUFFER_TOO_SMALL,
          duralog_spans_join(bytes, 8, begin, end, 4, -1, buffer, 4, lens, &len));
    HOLDS(len == 5);
    GIVES(DURALOG_E_BUFFER_TOO_SMALL,
          duralog_spans_join(bytes, 8, begin, end, 4, '|', NULL, 0, lens, &len));
    HOLDS(len == 8 && buffer[0] == '.' && lens[0] == UINT32_MAX);
    GIVES(DURALOG_OK, duralog_spans_join(bytes, 8, begin, end, 4, -1, buffer, 5, lens, &len));
    HOLDS(len == 5 && memcmp(buffer, "ghabc.", 6) == 0);
    HOLDS(lens[0] == 2 && lens[1] == 3 && lens[2] == 0 && lens[3] == 0);
    GIVES(DURALOG_OK, duralog_spans_join(bytes, 8, begin, end, 4, '|', buffer, 8, NULL, &len));
    HOLDS(len == 8 && memcmp(buffer, "gh|abc||.", 9) == 0);
    GIVES(DURALOG_OK, duralog_spans_join(NULL, 0, NULL, NULL, 0, 0, NULL, 0, NULL, &len));
    HOLDS(len == 0);
}

static void rest_refuses(wal_t *wal)
{
    static const uint32_t bad_sizes[] = {0, 1, 8, 4097, UINT32_MAX};
    int32_t batch_status = 7;
    wal_stat_t stat = WAL_STAT_INIT;
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    struct {
        wal_stat_t stat;
        uint64_t more;
    } newer = {WAL_STAT_INIT, 0};
    size_t i;

    GIVES(INVALID, wal_truncate(wal, UINT64_MAX));
    GIVES(DURALOG_OK, wal_truncate(wal, 0));
    GIVES(INVALID, wal_batch_status(wal, 4096, NULL));
    GIVES(DURALOG_OK, wal_batch_status(wal, 0, &batch_status));
    HOLDS(batch_status == WAL_BATCH_ABSENT || batch_status == WAL_BATCH_TRUNCATED);
    GIVES(DURALOG_OK, wal_batch_status(wal, 4097, &batch_status));
    HOLDS(batch_status == WAL_BATCH_ABSENT);
    GIVES(DURALOG_OK, wal_batch_status(wal, UINT64_MAX, &batch_status));
    HOLDS(batch_status == WAL_BATCH_ABSENT);
    GIVES(INVALID, wal_stat(wal, NULL));
    GIVES(INVALID, wal_recovery_report(wal, NULL));
    for (i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        stat.struct_size = bad_sizes[i];
        GIVES(INVALID, wal_stat(wal, &stat));
        report.struct_size = bad_sizes[i];
        GIVES(INVALID, wal_recovery_report(wal, &report));
    }
    HOLDS(stat.last_segment == 0 && report.next_seq == 0);
    newer.stat.struct_size = sizeof newer;
    newer.more = UNTOUCHED;
    GIVES(DURALOG_OK, wal_stat(wal, &newer.stat));
    HOLDS(newer.more == UNTOUCHED && newer.stat.struct_size == sizeof newer);
}

int main(int argc, char **argv)
{
    char path[4096];
    char absent[4096];
    wal_t *wal = NULL;
    wal_stat_t before = WAL_STAT_INIT;
    wal_stat_t after = WAL_STAT_INIT;

    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/log", argv[1]);
    snprintf(absent, sizeof absent, "%s/absent", argv[1]);

    versions_and_names();
    last_error_of_nothing();
    null_handles();
    last_error_sizes();
    open_refuses(path, absent);
    parts_are_joined_or_refused();

    GIVES(DURALOG_OK, wal_open(path, NULL, &wal));
    if (wal == NULL)
        return 1;
    GIVES(DURALOG_OK, wal_append(wal, WAL_OP_PUT, NULL, 0, NULL, 0, 0, NULL));
    GIVES(DURALOG_OK, wal_stat(wal, &before));
    appending_without_waiting_refuses(wal);
    append_refuses(wal);
    batch_refuses(wal);
    packed_refuses(wal);
    checkpoint_refuses(wal);
    reading_refuses(wal);
    rest_refuses(wal);
    GIVES(DURALOG_OK, wal_stat(wal, &after));
    /* Bytes may have been written: a mark, if this took so long that the log fell idle. */
    HOLDS(before.last_seq == 1 && after.last_seq == 1);
    HOLDS(after.batch_count == before.batch_count && after.record_count == before.record_count);

    /* After all that, the handle is as good as new. */
    checkpoint_reports_the_length_it_needs(wal);
    GIVES(DURALOG_OK, wal_append(wal, 255, small, 3, small, 4, WAL_APPEND_DURABLE, NULL));
    GIVES(DURALOG_OK, wal_close(wal));
    return check_result();
}
