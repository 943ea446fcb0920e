/*
 * What is borrowed, who releases what and in which order, which thread may do it; and that the
 * ways to write the same batch, and to read the same records, agree.
 *
 * Run by tests/c_face.rs with an empty directory, also under valgrind, which is what sees a
 * borrow that ended too early and a handle that was not released.
 */

#include "check.h"
#include <pthread.h>

#define THREAD_COUNT 4
#define APPENDS_PER_THREAD 25

static wal_t *open_log(const char *directory, const char *name)
{
    char path[4200];
    wal_t *wal = NULL;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    GIVES(DURALOG_OK, wal_open(path, NULL, &wal));
    if (wal == NULL)
        exit(1);
    return wal;
}

static uint64_t append(wal_t *wal, const char *key, const char *value)
{
    uint64_t seq = 0;
    GIVES(DURALOG_OK, wal_append(wal, WAL_OP_PUT, BYTES(key), strlen(key), BYTES(value),
                                 strlen(value), 0, &seq));
    return seq;
}

static int is(const uint8_t *bytes, size_t len, const char *text)
{
    return bytes != NULL && len == strlen(text) && memcmp(bytes, text, len) == 0;
}

static void batches_written_in_two_ways_are_the_same(wal_t *wal)
{
    static const uint8_t ops[] = {WAL_OP_PUT, WAL_OP_DELETE, 200};
    static const uint32_t key_lens[] = {5, 3, 0};
    static const uint32_t value_lens[] = {3, 0, 2};
    wal_op_t array[3];
    uint64_t seq = 0;
    uint64_t batch_id = 0;
    int round, i;
    wal_cursor_t *cursor = NULL;
    wal_record_t record;

    memset(array, 0, sizeof array);
    array[0].op = WAL_OP_PUT;
    array[0].key = BYTES("alice");
    array[0].key_len = 5;
    array[0].value = BYTES("-10");
    array[0].value_len = 3;
    array[1].op = WAL_OP_DELETE;
    array[1].key = BYTES("bob");
    array[1].key_len = 3;
    array[2].op = 200;
    array[2].value = BYTES("xy");
    array[2].value_len = 2;
    GIVES(DURALOG_OK, wal_append_batch(wal, array, 3, 0, &seq));
    HOLDS(seq == 4);
    GIVES(DURALOG_OK, wal_append_batch_packed(wal, 3, ops, key_lens, value_lens,
                                              BYTES("alice-10bobxy"), 13, 0, &seq));
    HOLDS(seq == 8);

    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &cursor));
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 3; i++) {
            static const char *const keys[] = {"alice", "bob", ""};
            static const char *const values[] = {"-10", "", "xy"};
            memset(&record, 0xA5, sizeof record);
            GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
            HOLDS(is(record.key, record.key_len, keys[i]));
            HOLDS(is(record.value, record.value_len, values[i]));
            HOLDS(record.seq == (uint64_t)(round * 4 + i + 1));
            HOLDS(record.kind == WAL_KIND_RECORD && record.op == ops[i] && record.committed == 1);
            HOLDS(record.time_ns > UINT64_C(1500000000000000000));
            HOLDS(memcmp(record.reserved, "\0\0\0\0\0", 5) == 0);
            HOLDS(i == 0 || record.batch_id == batch_id);
            HOLDS(i != 0 || record.batch_id > batch_id);
            batch_id = record.batch_id;
        }
    }
    GIVES(DURALOG_END, wal_cursor_next(cursor, &record));

    /* The end is not final. */
    append(wal, "more", "");
    GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
    HOLDS(is(record.key, record.key_len, "more") && is(record.value, record.value_len, ""));
    HOLDS(record.batch_id > batch_id && record.seq == 9);
    GIVES(DURALOG_END, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
}

static void pages_show_what_single_records_show(wal_t *wal, uint32_t flags)
{
    wal_cursor_t *singly = NULL;
    wal_cursor_t *paged = NULL;
    wal_page_t page = WAL_PAGE_INIT;
    wal_record_t record;
    duralog_status_t status;
    size_t i;
    size_t total = 0;

    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, flags, &singly));
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, flags, &paged));
    while ((status = wal_cursor_next_page(paged, 4, &page)) == DURALOG_OK) {
        HOLDS(page.count >= 1 && page.count <= 4);
        for (i = 0; i < page.count; i++, total++) {
            GIVES(DURALOG_OK, wal_cursor_next(singly, &record));
            HOLDS(page.seq[i] == record.seq && page.batch_id[i] == record.batch_id);
            HOLDS(page.time_ns[i] == record.time_ns && page.kind[i] == record.kind);
            HOLDS(page.op[i] == record.op && page.committed[i] == record.committed);
            HOLDS(page.value_end[i] <= page.bytes_len);
            HOLDS(page.value_begin[i] - page.key_begin[i] == record.key_len);
            HOLDS(page.value_end[i] - page.value_begin[i] == record.value_len);
            HOLDS(memcmp(page.bytes + page.key_begin[i], record.key, record.key_len) == 0);
            HOLDS(memcmp(page.bytes + page.value_begin[i], record.value, record.value_len) == 0);
        }
    }
    GIVES(DURALOG_END, status);
    GIVES(DURALOG_END, wal_cursor_next(singly, &record));
    HOLDS(total >= 7);
    GIVES(DURALOG_OK, wal_cursor_close(paged));
    GIVES(DURALOG_OK, wal_cursor_close(singly));
}

static void raw_cursor_shows_the_marks(wal_t *wal)
{
    static const uint8_t expected[] = {WAL_KIND_RECORD, WAL_KIND_RECORD, WAL_KIND_RECORD,
                                       WAL_KIND_COMMIT, WAL_KIND_RECORD, WAL_KIND_RECORD,
                                       WAL_KIND_RECORD, WAL_KIND_COMMIT, WAL_KIND_RECORD,
                                       WAL_KIND_CHECKPOINT};
    wal_cursor_t *cursor = NULL;
    wal_record_t record;
    uint64_t seq = 0;
    size_t i;

    GIVES(DURALOG_OK, wal_checkpoint(wal, BYTES("saved"), 5, &seq));
    HOLDS(seq == 10);
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, WAL_CURSOR_RAW, &cursor));
    for (i = 0; i < sizeof expected; i++) {
        GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
        HOLDS(record.kind == expected[i] && record.seq == i + 1 && record.committed == 1);
        if (record.kind != WAL_KIND_RECORD)
            HOLDS(record.op == 0 && record.key != NULL && record.key_len == 0);
    }
    HOLDS(is(record.value, record.value_len, "saved"));
    GIVES(DURALOG_END, wal_cursor_next(cursor, &record));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
}

struct replaying {
    wal_t *wal;
    int seen;
    int stop_at;
    int append_at;
};

static int on_record(void *user_data, const wal_record_t *record)
{
    struct replaying *replaying = (struct replaying *)user_data;
    HOLDS(record->kind == WAL_KIND_RECORD && record->committed == 1);
    replaying->seen++;
    if (replaying->seen == replaying->append_at)
        append(replaying->wal, "appended", "by the callback");
    return replaying->seen == replaying->stop_at ? -5 : 0;
}

static void replay_goes_to_the_end_or_where_it_is_stopped(wal_t *wal)
{
    struct replaying replaying = {NULL, 0, 0, 0};
    GIVES(DURALOG_OK, wal_replay(wal, 0, on_record, &replaying));
    HOLDS(replaying.seen == 7);
    replaying.seen = 0;
    GIVES(DURALOG_OK, wal_replay(wal, 4, on_record, &replaying));
    HOLDS(replaying.seen == 4);
    replaying.seen = 0;
    replaying.stop_at = 3;
    GIVES(DURALOG_STOPPED, wal_replay(wal, 0, on_record, &replaying));
    HOLDS(replaying.seen == 3);

    /* The callback may use the log that is being replayed. */
    replaying.wal = wal;
    replaying.seen = 0;
    replaying.stop_at = 0;
    replaying.append_at = 7;
    GIVES(DURALOG_OK, wal_replay(wal, 0, on_record, &replaying));
    HOLDS(replaying.seen == 8);
}

static void truncated_is_not_replayed(wal_t *wal)
{
    struct replaying replaying = {NULL, 0, 0, 0};
    int32_t batch_status = 7;
    wal_cursor_t *cursor = NULL;
    wal_record_t record;
    wal_stat_t stat = WAL_STAT_INIT;
    uint64_t batch_id;

    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &cursor));
    GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
    batch_id = record.batch_id;
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
    GIVES(DURALOG_OK, wal_batch_status(wal, batch_id, &batch_status));
    HOLDS(batch_status == WAL_BATCH_COMMITTED);
    GIVES(DURALOG_OK, wal_truncate(wal, 8));
    GIVES(DURALOG_OK, wal_replay(wal, 0, on_record, &replaying));
    HOLDS(replaying.seen == 2);
    GIVES(DURALOG_OK, wal_batch_status(wal, batch_id, &batch_status));
    HOLDS(batch_status != WAL_BATCH_ABSENT); /* that it was committed stays true */
    GIVES(DURALOG_OK, wal_stat(wal, &stat));
    HOLDS(stat.truncated_seq == 8 && stat.checkpoint_seq == 10 && stat.last_seq == 11);
    HOLDS(stat.segment_count == 1 && stat.durable_lsn == stat.written_lsn);
    HOLDS(stat.batch_count >= 4 && stat.record_count == 8 && stat.sync_count >= 1);
}

static void *use_and_close_cursor(void *user_data)
{
    wal_cursor_t *cursor = (wal_cursor_t *)user_data;
    wal_record_t record;
    GIVES(DURALOG_OK, wal_cursor_next(cursor, &record));
    HOLDS(is(record.key, record.key_len, "two"));
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
    return NULL;
}

static void handles_are_closed_in_any_order_by_any_thread(const char *directory)
{
    wal_t *wal = open_log(directory, "order");
    wal_cursor_t *first = NULL;
    wal_cursor_t *second = NULL;
    wal_cursor_t *third = NULL;
    wal_record_t record;
    pthread_t thread;

    append(wal, "one", "1");
    append(wal, "two", "2");
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &first));
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, WAL_CURSOR_RAW, &second));
    GIVES(DURALOG_OK, wal_cursor_open(wal, 0, 0, &third));
    GIVES(DURALOG_OK, wal_cursor_next(first, &record));
    GIVES(DURALOG_OK, wal_cursor_close(third));
    GIVES(DURALOG_OK, wal_close(wal));

    HOLDS(is(record.key, record.key_len, "one")); /* closing the log ends no borrow of a cursor */
    GIVES(DURALOG_OK, wal_cursor_next(second, &record));
    HOLDS(is(record.value, record.value_len, "1"));
    HOLDS(pthread_create(&thread, NULL, use_and_close_cursor, first) == 0);
    HOLDS(pthread_join(thread, NULL) == 0);

    /* A cursor left from before does not keep the log from being opened again. */
    wal = open_log(directory, "order");
    append(wal, "three", "3");
    GIVES(DURALOG_OK, wal_cursor_close(second));
    GIVES(DURALOG_OK, wal_close(wal));
}

static void *append_many(void *user_data)
{
    wal_t *wal = (wal_t *)user_data;
    char value[32];
    int i;
    for (i = 0; i < APPENDS_PER_THREAD; i++) {
        snprintf(value, sizeof value, "%d", i);
        if (wal_append(wal, WAL_OP_PUT, BYTES(&user_data), sizeof user_data, BYTES(value),
                       strlen(value), 0, NULL)
            != DURALOG_OK)
            return user_data;
    }
    return NULL;
}

static void threads_share_a_handle(const char *directory)
{
    wal_t *wal = open_log(directory, "shared");
    pthread_t threads[THREAD_COUNT];
    struct replaying replaying = {NULL, 0, 0, 0};
    wal_stat_t stat = WAL_STAT_INIT;
    int i;

    for (i = 0; i < THREAD_COUNT; i++)
        HOLDS(pthread_create(&threads[i], NULL, append_many, wal) == 0);
    for (i = 0; i < THREAD_COUNT; i++) {
        void *failed = NULL;
        HOLDS(pthread_join(threads[i], &failed) == 0 && failed == NULL);
    }
    GIVES(DURALOG_OK, wal_replay(wal, 0, on_record, &replaying));
    HOLDS(replaying.seen == THREAD_COUNT * APPENDS_PER_THREAD);
    GIVES(DURALOG_OK, wal_stat(wal, &stat));
    HOLDS(stat.batch_count == THREAD_COUNT * APPENDS_PER_THREAD);
    HOLDS(stat.group_count <= stat.batch_count);
    GIVES(DURALOG_OK, wal_close(wal));
}

static void report_of_a_clean_end(const char *directory)
{
    wal_t *wal = open_log(directory, "log");
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    memset((char *)&report + sizeof report.struct_size, 0xA5,
           sizeof report - sizeof report.struct_size);
    GIVES(DURALOG_OK, wal_recovery_report(wal, &report));
    HOLDS(report.struct_size == sizeof report);
    HOLDS(report.verdict == WAL_VERDICT_CLEAN_END && strcmp(report.row, "Z") == 0);
    HOLDS(report.control_state == WAL_CONTROL_GOOD && report.repaired == 0);
    HOLDS(report.next_seq == 12 && report.truncated_seq == 8 && report.reserved == 0);
    HOLDS(report.first_segment == 1 && report.last_segment == 1);
    HOLDS(report.dropped_bytes == 0 && report.reason[0] == '\0');
    GIVES(DURALOG_OK, wal_close(wal));
}

static void a_mapped_page_stays_while_its_segment_is_used_for_something_else(const char *directory)
{
    char path[4200];
    static uint8_t value[30000];
    static uint8_t shown[sizeof value];
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_page_t page = WAL_PAGE_INIT;
    wal_t *wal = NULL;
    wal_cursor_t *cursor = NULL;
    uint64_t seq = 0;
    int round;

    options.segment_bytes_max = 65536;
    options.sync_mode = WAL_SYNC_MANUAL;
    snprintf(path, sizeof path, "%s/mapped", directory);
    GIVES(DURALOG_OK, wal_open(path, &options, &wal));
    for (round = 0; round < 12; round++) {
        memset(value, 'a' + round, sizeof value);
        GIVES(DURALOG_OK, wal_append(wal, WAL_OP_PUT, NULL, 0, value, sizeof value, 0, &seq));
        if (round == 5) {
            GIVES(DURALOG_OK, wal_cursor_open(wal, 0, WAL_CURSOR_MAPPED, &cursor));
            GIVES(DURALOG_OK, wal_cursor_next_page(cursor, 1, &page));
            memcpy(shown, page.bytes + page.value_begin[0], sizeof shown);
            HOLDS(shown[0] == 'a' && shown[sizeof shown - 1] == 'a');
        }
        if (round > 5)
            GIVES(DURALOG_OK, wal_truncate(wal, seq));
    }
    HOLDS(memcmp(page.bytes + page.value_begin[0], shown, sizeof shown) == 0);
    GIVES(DURALOG_OK, wal_close(wal));
    HOLDS(memcmp(page.bytes + page.value_begin[0], shown, sizeof shown) == 0);
    GIVES(DURALOG_OK, wal_cursor_close(cursor));
}

int main(int argc, char **argv)
{
    wal_t *wal;
    if (argc != 2)
        return 2;
    wal = open_log(argv[1], "log");
    batches_written_in_two_ways_are_the_same(wal);
    pages_show_what_single_records_show(wal, 0);
    pages_show_what_single_records_show(wal, WAL_CURSOR_RAW);
    pages_show_what_single_records_show(wal, WAL_CURSOR_RAW | WAL_CURSOR_MAPPED);
    raw_cursor_shows_the_marks(wal);
    replay_goes_to_the_end_or_where_it_is_stopped(wal);
    truncated_is_not_replayed(wal);
    GIVES(DURALOG_OK, wal_close(wal));
    report_of_a_clean_end(argv[1]);
    handles_are_closed_in_any_order_by_any_thread(argv[1]);
    threads_share_a_handle(argv[1]);
    a_mapped_page_stays_while_its_segment_is_used_for_something_else(argv[1]);
    return check_result();
}
