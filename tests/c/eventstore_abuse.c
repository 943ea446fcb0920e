/*
 * Every function of the event store with arguments it must refuse: NULL, zero and huge lengths,
 * texts that are no UTF-8, unknown flags and numbers, structs of the wrong size, columns that do not
 * agree. Each refusal is the status that the header says, writes no output, and leaves batch and
 * store as they were; nothing crashes.
 *
 * Run by tests/c_face.rs with an empty directory, also under valgrind.
 */

#include "check.h"

#define INVALID DURALOG_E_INVALID_ARGUMENT
#define RECORD_LEN_MAX 67108852u

static const size_t HUGE_LENGTHS[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1, SIZE_MAX / 4};
#define HUGE_COUNT (sizeof HUGE_LENGTHS / sizeof HUGE_LENGTHS[0])
static const uint32_t BAD_SIZES[] = {0, 1, 4, 4097, UINT32_MAX};
#define BAD_COUNT (sizeof BAD_SIZES / sizeof BAD_SIZES[0])

static uint8_t small[64];
static const char text[2048] = "text";
static const char bad_utf8[] = {'a', '\xC3', 'b', 0};

static void null_handles(void)
{
    uint64_t number = 77;
    size_t len = 77;
    int32_t batch_status = 77;
    const char *name = small[0] == 0 ? text : NULL;
    const uint8_t *ids = small;
    eventstore_stat_t stat = EVENTSTORE_STAT_INIT;
    wal_stat_t wal_stat_out = WAL_STAT_INIT;
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    eventstore_index_report_t index = EVENTSTORE_INDEX_REPORT_INIT;
    eventstore_new_event_t new_event = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_columns_t columns = EVENTSTORE_COLUMNS_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_stream_versions_t versions = EVENTSTORE_STREAM_VERSIONS_INIT;
    eventstore_conflict_t conflict = EVENTSTORE_CONFLICT_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    eventstore_names_page_t names_page = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_append_t *batch = NULL;
    eventstore_query_t *query = NULL;
    eventstore_cursor_t *cursor = NULL;
    eventstore_names_t *names = NULL;
    eventstore_subscription_t *subscription = NULL;
    eventstore_snapshot_t *snapshot = NULL;
    eventstore_snapshot_info_t snapshot_info = EVENTSTORE_SNAPSHOT_INFO_INIT;
    int32_t fd = 77;

    GIVES(INVALID, eventstore_sync(NULL));
    GIVES(INVALID, eventstore_last_position(NULL, &number));
    GIVES(INVALID, eventstore_stat(NULL, &stat));
    GIVES(INVALID, eventstore_wal_stat(NULL, &wal_stat_out));
    GIVES(INVALID, eventstore_recovery_report(NULL, &report));
    GIVES(INVALID, eventstore_verify_index(NULL, NULL, NULL, &index));
    GIVES(INVALID, eventstore_batch_status(NULL, 4096, &batch_status));
    GIVES(INVALID, eventstore_query_open(NULL));
    GIVES(INVALID, eventstore_query_add_item(NULL));
    GIVES(INVALID, eventstore_query_add_type(NULL, "T", 1));
    GIVES(INVALID, eventstore_query_add_tag(NULL, "t", 1));
    GIVES(INVALID, eventstore_append_open(NULL));
    GIVES(INVALID, eventstore_append_clear(NULL));
    GIVES(INVALID, eventstore_append_add_event(NULL, &new_event));
    GIVES(INVALID, eventstore_append_expect(NULL, "s", 1, 0));
    GIVES(INVALID, eventstore_append_save_position(NULL, "n", 1, 1, 0));
    GIVES(INVALID, eventstore_append_put_state(NULL, small, 1, small, 1));
    GIVES(INVALID, eventstore_append_delete_state(NULL, small, 1));
    GIVES(INVALID, eventstore_append_set_idempotency_key(NULL, small, 1));
    GIVES(INVALID, eventstore_append_add_columns(NULL, &columns));
    GIVES(INVALID, eventstore_append_stream_version(NULL, 0, &name, &len, &number));
    GIVES(INVALID, eventstore_append_stream_versions(NULL, &versions));
    GIVES(INVALID, eventstore_append_conflict_count(NULL, &len));
    GIVES(INVALID, eventstore_append_conflict(NULL, 0, &conflict));
    GIVES(INVALID, eventstore_append_known_ids(NULL, &ids, &len));
    GIVES(INVALID, eventstore_read(NULL, NULL, &cursor));
    GIVES(INVALID, eventstore_cursor_next(NULL, &event));
    GIVES(INVALID, eventstore_cursor_next_page(NULL, 1, &page));
    GIVES(INVALID, eventstore_cursor_event_at(NULL, 1, &event));
    GIVES(INVALID, eventstore_cursor_event_by_id(NULL, small, &event));
    GIVES(INVALID, eventstore_stream_info(NULL, "s", 1, &info));
    GIVES(INVALID, eventstore_saved_position(NULL, "n", 1, &number));
    GIVES(INVALID, eventstore_state(NULL, small, 1, small, 1, &len));
    GIVES(INVALID, eventstore_names_open(NULL, EVENTSTORE_NAMES_TAG, NULL, 0, &names));
    GIVES(INVALID, eventstore_names_next_page(NULL, 1, &names_page));

    GIVES(INVALID, eventstore_subscribe(NULL, NULL, 0, 0, NULL, 0, &subscription));
    GIVES(INVALID, eventstore_subscription_next_page(NULL, 1, 0, &page));
    GIVES(INVALID, eventstore_subscription_ack(NULL, 1));
    GIVES(INVALID, eventstore_subscription_position(NULL, &number));
    GIVES(INVALID, eventstore_subscription_fd(NULL, &fd));
    GIVES(INVALID, eventstore_subscription_cancel(NULL));
    GIVES(INVALID, eventstore_snapshot_save(NULL, small, 1, 1, 0, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_snapshot_load(NULL, small, 1, 1, NULL, 0, &snapshot));
    GIVES(INVALID, eventstore_snapshot_info(NULL, &snapshot_info));
    GIVES(INVALID, eventstore_snapshot_delete(NULL, small, 1));
    HOLDS(subscription == NULL && snapshot == NULL && fd == 77 && snapshot_info.version == 0);

    GIVES(DURALOG_OK, eventstore_append_open(&batch));
    GIVES(DURALOG_OK, eventstore_query_open(&query));
    GIVES(INVALID, eventstore_append(NULL, batch, 0, &receipt));
    GIVES(INVALID, eventstore_append_add_condition(batch, NULL, 0));
    GIVES(INVALID, eventstore_append_add_condition(NULL, query, 0));
    HOLDS(number == 77 && len == 77 && batch_status == 77 && name == text && ids == small);
    HOLDS(cursor == NULL && names == NULL && receipt.first_position == 0 && page.count == 0);
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    GIVES(DURALOG_OK, eventstore_query_close(query));
    GIVES(DURALOG_OK, eventstore_close(NULL));
    GIVES(DURALOG_OK, eventstore_append_close(NULL));
    GIVES(DURALOG_OK, eventstore_query_close(NULL));
    GIVES(DURALOG_OK, eventstore_cursor_close(NULL));
    GIVES(DURALOG_OK, eventstore_names_close(NULL));
    GIVES(DURALOG_OK, eventstore_subscription_close(NULL));
    GIVES(DURALOG_OK, eventstore_snapshot_close(NULL));
}

static void open_refuses(const char *path, const char *absent)
{
    eventstore_t *const kept = (eventstore_t *)small;
    eventstore_t *store = kept;
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    wal_options_t wal = WAL_OPTIONS_INIT;
    size_t i;

    GIVES(INVALID, eventstore_open(NULL, NULL, &store));
    GIVES(INVALID, eventstore_open("", NULL, &store));
    GIVES(INVALID, eventstore_open(path, NULL, NULL));
    for (i = 0; i < BAD_COUNT; i++) {
        options.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_open(path, &options, &store));
    }
    options.struct_size = sizeof options;
    options.flags = 2;
    GIVES(INVALID, eventstore_open(path, &options, &store));
    options.flags = 0;
    options.wal = &wal;
    wal.sync_mode = 3;
    GIVES(INVALID, eventstore_open(path, &options, &store));
    wal.sync_mode = 0;
    wal.struct_size = 3;
    GIVES(INVALID, eventstore_open(path, &options, &store));
    wal.struct_size = sizeof wal;
    wal.open_flags = WAL_OPEN_MUST_EXIST;
    GIVES(DURALOG_E_NOT_FOUND, eventstore_open(absent, &options, &store));
    wal.open_flags = WAL_OPEN_READ_ONLY;
    GIVES(DURALOG_E_NOT_FOUND, eventstore_open(absent, &options, &store));
    HOLDS(store == kept);
}

static void query_refuses(void)
{
    eventstore_query_t *query = NULL;
    size_t i;

    GIVES(DURALOG_OK, eventstore_query_open(&query));
    GIVES(INVALID, eventstore_query_add_type(query, "T", 1)); /* there is no item */
    GIVES(INVALID, eventstore_query_add_tag(query, "t", 1));
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    GIVES(INVALID, eventstore_query_add_type(query, NULL, 0));
    GIVES(INVALID, eventstore_query_add_type(query, NULL, 1));
    GIVES(INVALID, eventstore_query_add_type(query, text, 256));
    GIVES(INVALID, eventstore_query_add_type(query, bad_utf8, 3));
    GIVES(INVALID, eventstore_query_add_tag(query, NULL, 0));
    GIVES(INVALID, eventstore_query_add_tag(query, text, 256));
    for (i = 0; i < HUGE_COUNT; i++) {
        GIVES(INVALID, eventstore_query_add_type(query, text, HUGE_LENGTHS[i]));
        GIVES(INVALID, eventstore_query_add_tag(query, text, HUGE_LENGTHS[i]));
    }
    GIVES(DURALOG_OK, eventstore_query_add_type(query, text, 255));
    GIVES(DURALOG_OK, eventstore_query_close(query));
}

static void event_refuses(eventstore_append_t *batch)
{
    static const char *const tags[65] = {"tag"};
    size_t tag_lens[65] = {3};
    eventstore_new_event_t good = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_new_event_t event;
    size_t i;

    good.stream = "s";
    good.stream_len = 1;
    good.event_type = "T";
    good.event_type_len = 1;
#define REFUSED(status, field, value)                                                             \
    do {                                                                                          \
        event.field = (value);                                                                    \
        GIVES(status, eventstore_append_add_event(batch, &event));                                \
        event = good;                                                                             \
    } while (0)

    event = good;
    GIVES(INVALID, eventstore_append_add_event(batch, NULL));
    for (i = 0; i < BAD_COUNT; i++)
        REFUSED(INVALID, struct_size, BAD_SIZES[i]);
    REFUSED(INVALID, has_occurred, 2);
    REFUSED(INVALID, stream_len, 0);
    REFUSED(INVALID, stream, NULL);
    REFUSED(INVALID, event_type_len, 0);
    REFUSED(INVALID, event_type, NULL);
    REFUSED(INVALID, data_len, 1);
    REFUSED(INVALID, metadata_len, 1);
    REFUSED(INVALID, content_type_len, 1);
    REFUSED(INVALID, tag_count, 1);
    event.stream = bad_utf8;
    REFUSED(INVALID, stream_len, 3);
    event.stream = text;
    REFUSED(INVALID, stream_len, 1025);
    event.event_type = text;
    REFUSED(INVALID, event_type_len, 256);
    event.content_type = text;
    REFUSED(INVALID, content_type_len, 256);
    event.tags = tags;
    REFUSED(INVALID, tag_count, 1); /* no lengths */
    event.tags = tags;
    event.tag_lens = tag_lens;
    REFUSED(INVALID, tag_count, 65);
    event.tags = tags;
    event.tag_lens = tag_lens;
    REFUSED(INVALID, tag_count, 2); /* the second is NULL, of length 0 */
    tag_lens[0] = 256;
    event.tags = tags;
    event.tag_lens = tag_lens;
    REFUSED(INVALID, tag_count, 1);
    for (i = 0; i < HUGE_COUNT; i++) {
        event.data = small;
        REFUSED(i < 3 ? INVALID : DURALOG_E_TOO_LARGE, data_len, HUGE_LENGTHS[i]);
        event.metadata = small;
        REFUSED(i < 3 ? INVALID : DURALOG_E_TOO_LARGE, metadata_len, HUGE_LENGTHS[i]);
        REFUSED(INVALID, stream_len, HUGE_LENGTHS[i]);
        REFUSED(INVALID, event_type_len, HUGE_LENGTHS[i]);
        event.content_type = text;
        REFUSED(INVALID, content_type_len, HUGE_LENGTHS[i]);
        event.tags = tags;
        event.tag_lens = tag_lens;
        REFUSED(INVALID, tag_count, HUGE_LENGTHS[i]);
        tag_lens[0] = HUGE_LENGTHS[i];
        event.tags = tags;
        event.tag_lens = tag_lens;
        REFUSED(INVALID, tag_count, 1);
    }
    event.data = small;
    REFUSED(DURALOG_E_TOO_LARGE, data_len, RECORD_LEN_MAX + 1);
#undef REFUSED
}

static void rest_of_batch_refuses(eventstore_append_t *batch)
{
    size_t i;

    GIVES(INVALID, eventstore_append_expect(batch, NULL, 0, 0));
    GIVES(INVALID, eventstore_append_expect(batch, text, 1025, 0));
    GIVES(INVALID, eventstore_append_expect(batch, "s", 1, -3));
    GIVES(INVALID, eventstore_append_expect(batch, "s", 1, INT64_MIN));
    GIVES(INVALID, eventstore_append_save_position(batch, NULL, 0, 1, 0));
    GIVES(INVALID, eventstore_append_save_position(batch, text, 256, 1, 0));
    GIVES(INVALID, eventstore_append_save_position(batch, "n", 1, 1, 2));
    GIVES(INVALID, eventstore_append_save_position(batch, bad_utf8, 2, 1, 0));
    GIVES(INVALID, eventstore_append_put_state(batch, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_append_put_state(batch, (const uint8_t *)text, 1025, small, 1));
    GIVES(INVALID, eventstore_append_put_state(batch, small, 1, small, 1048577));
    GIVES(INVALID, eventstore_append_put_state(batch, small, 1, NULL, 1));
    GIVES(INVALID, eventstore_append_delete_state(batch, small, 0));
    GIVES(INVALID, eventstore_append_set_idempotency_key(batch, NULL, 1));
    GIVES(INVALID, eventstore_append_set_idempotency_key(batch, (const uint8_t *)text, 256));
    for (i = 0; i < HUGE_COUNT; i++) {
        const size_t huge = HUGE_LENGTHS[i];
        GIVES(INVALID, eventstore_append_expect(batch, "s", huge, 0));
        GIVES(INVALID, eventstore_append_save_position(batch, "n", huge, 1, 0));
        GIVES(INVALID, eventstore_append_put_state(batch, small, huge, small, 1));
        GIVES(INVALID, eventstore_append_put_state(batch, small, 1, small, huge));
        GIVES(INVALID, eventstore_append_delete_state(batch, small, huge));
        GIVES(INVALID, eventstore_append_set_idempotency_key(batch, small, huge));
    }
}

static void columns_refuse(eventstore_append_t *batch)
{
    static const uint32_t ones[3] = {1, 1, 1};
    static const uint32_t twos[3] = {2, 2, 2};
    static const uint32_t zeros[3] = {0, 0, 0};
    static const uint32_t large[3] = {RECORD_LEN_MAX, UINT32_MAX, UINT32_MAX};
    static const uint32_t many_tags[3] = {65, 0, 0};
    const uint32_t *unaligned = (const uint32_t *)(const void *)((const char *)ones + 1);
    eventstore_columns_t good = EVENTSTORE_COLUMNS_INIT;
    eventstore_columns_t columns;
    size_t i;

    good.count = 3;
    good.stream_lens = ones;
    good.event_type_lens = ones;
    good.bytes = BYTES("sssTTT");
    good.bytes_len = 6;
#define REFUSED(status, field, value)                                                             \
    do {                                                                                          \
        columns.field = (value);                                                                  \
        GIVES(status, eventstore_append_add_columns(batch, &columns));                            \
        columns = good;                                                                           \
    } while (0)

    columns = good;
    GIVES(INVALID, eventstore_append_add_columns(batch, NULL));
    for (i = 0; i < BAD_COUNT; i++)
        REFUSED(INVALID, struct_size, BAD_SIZES[i]);
    REFUSED(INVALID, reserved, 1);
    REFUSED(INVALID, stream_lens, NULL);
    REFUSED(INVALID, stream_lens, unaligned);
    REFUSED(INVALID, stream_lens, zeros);
    REFUSED(INVALID, stream_lens, twos);
    REFUSED(INVALID, event_type_lens, NULL);
    REFUSED(INVALID, event_type_lens, zeros);
    REFUSED(INVALID, content_type_lens, ones);
    REFUSED(INVALID, content_type_lens, large);
    REFUSED(INVALID, tag_counts, ones); /* no lengths */
    REFUSED(INVALID, tag_counts, many_tags);
    REFUSED(INVALID, tag_counts, large);
    columns.tag_lens = zeros;
    REFUSED(INVALID, tag_counts, ones);
    columns.tag_lens = ones;
    REFUSED(INVALID, tag_counts, ones); /* no bytes for them */
    REFUSED(INVALID, data_lens, ones);
    REFUSED(DURALOG_E_TOO_LARGE, data_lens, large);
    REFUSED(DURALOG_E_TOO_LARGE, metadata_lens, large);
    REFUSED(INVALID, bytes, NULL);
    REFUSED(INVALID, bytes_len, 5);
    REFUSED(INVALID, bytes_len, 7);
    REFUSED(INVALID, bytes, (const uint8_t *)"ss\xC3\xA9TT"); /* one character in two texts */
    REFUSED(INVALID, bytes, (const uint8_t *)"ss\xFFTTT");
    for (i = 0; i < HUGE_COUNT; i++) {
        REFUSED(INVALID, bytes_len, HUGE_LENGTHS[i]);
        if (i < 3)
            REFUSED(INVALID, count, HUGE_LENGTHS[i]);
    }
    columns.count = 0;
    columns.bytes_len = 0;
    columns.stream_lens = NULL;
    columns.event_type_lens = NULL;
    GIVES(DURALOG_OK, eventstore_append_add_columns(batch, &columns));
#undef REFUSED
}

static void append_refuses(eventstore_t *store, eventstore_append_t *batch)
{
    static const uint8_t id[16] = {9};
    static const uint8_t zeros[16] = {0};
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_stream_versions_t versions = EVENTSTORE_STREAM_VERSIONS_INIT;
    eventstore_conflict_t conflict = EVENTSTORE_CONFLICT_INIT;
    eventstore_query_t *query = NULL;
    const char *name = NULL;
    const uint8_t *ids = NULL;
    uint64_t version = 77;
    size_t len = 77;
    size_t i;

    GIVES(DURALOG_E_EMPTY_BATCH, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_expect(batch, "s", 1, 0));
    GIVES(DURALOG_E_EMPTY_BATCH, eventstore_append(store, batch, 0, &receipt));
    event.stream = "s";
    event.stream_len = 1;
    event.event_type = "T";
    event.event_type_len = 1;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(INVALID, eventstore_append(store, batch, 2, &receipt));
    GIVES(INVALID, eventstore_append(store, NULL, 0, &receipt));
    for (i = 0; i < BAD_COUNT; i++) {
        receipt.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    }
    receipt.struct_size = sizeof receipt;
    GIVES(INVALID, eventstore_append_stream_version(batch, 0, &name, &len, &version));
    GIVES(INVALID, eventstore_append_stream_version(batch, SIZE_MAX, &name, &len, &version));
    GIVES(INVALID, eventstore_append_stream_version(batch, 0, NULL, &len, &version));
    GIVES(INVALID, eventstore_append_stream_version(batch, 0, &name, NULL, &version));
    GIVES(INVALID, eventstore_append_stream_version(batch, 0, &name, &len, NULL));
    GIVES(INVALID, eventstore_append_stream_versions(batch, NULL));
    for (i = 0; i < BAD_COUNT; i++) {
        versions.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_append_stream_versions(batch, &versions));
    }
    versions.struct_size = sizeof versions;
    GIVES(DURALOG_OK, eventstore_append_stream_versions(batch, &versions));
    HOLDS(versions.count == 0 && versions.bytes != NULL && versions.stream_version != NULL);
    GIVES(INVALID, eventstore_append_conflict_count(batch, NULL));
    GIVES(INVALID, eventstore_append_conflict(batch, 0, &conflict));
    GIVES(INVALID, eventstore_append_conflict(batch, 0, NULL));
    GIVES(INVALID, eventstore_append_known_ids(batch, NULL, &len));
    GIVES(INVALID, eventstore_append_known_ids(batch, &ids, NULL));
    HOLDS(name == NULL && len == 77 && version == 77 && ids == NULL);

    /* What only the batch as a whole shows. */
    GIVES(DURALOG_OK, eventstore_append_expect(batch, "s", 1, 0));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    event.id = zeros;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    event.id = id;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_append_put_state(batch, small, 1, small, 1));
    GIVES(DURALOG_OK, eventstore_append_delete_state(batch, small, 1));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_append_save_position(batch, "n", 1, UINT64_MAX, 0));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_query_open(&query));
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    GIVES(DURALOG_OK, eventstore_append_add_condition(batch, query, 0));
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(INVALID, eventstore_append(store, batch, 0, &receipt)); /* an empty item */
    GIVES(DURALOG_OK, eventstore_query_close(query));
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    HOLDS(receipt.first_position == 0 && receipt.time_ns == 0);
}

static void reading_refuses(eventstore_t *store)
{
    eventstore_cursor_t *const kept = (eventstore_cursor_t *)small;
    eventstore_cursor_t *cursor = kept;
    eventstore_read_t good = EVENTSTORE_READ_INIT;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_query_t *query = NULL;
    static const uint8_t bad_tags[] = {5, 't'};
    size_t at = 0;
    size_t len = 77;
    const char *tag = NULL;
    size_t i;

    GIVES(INVALID, eventstore_read(store, NULL, NULL));
#define REFUSED(field, value)                                                                     \
    do {                                                                                          \
        read.field = (value);                                                                     \
        GIVES(INVALID, eventstore_read(store, &read, &cursor));                                   \
        read = good;                                                                              \
    } while (0)
    for (i = 0; i < BAD_COUNT; i++)
        REFUSED(struct_size, BAD_SIZES[i]);
    REFUSED(reserved, 1);
    REFUSED(selection, 4);
    REFUSED(selection, UINT32_MAX);
    REFUSED(direction, 2);
    REFUSED(selection, EVENTSTORE_READ_STREAM); /* without a name */
    REFUSED(selection, EVENTSTORE_READ_QUERY);  /* without a query */
    read.name = text;
    REFUSED(name_len, 4); /* a name of nothing */
    read.name = text;
    read.name_len = 1025;
    REFUSED(selection, EVENTSTORE_READ_STREAM);
    read.name = bad_utf8;
    read.name_len = 3;
    REFUSED(selection, EVENTSTORE_READ_CATEGORY);
    for (i = 0; i < HUGE_COUNT; i++) {
        read.name = text;
        read.name_len = HUGE_LENGTHS[i];
        REFUSED(selection, EVENTSTORE_READ_STREAM);
    }
    GIVES(DURALOG_OK, eventstore_query_open(&query));
    REFUSED(query, query); /* a query of nothing */
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    read.query = query;
    REFUSED(selection, EVENTSTORE_READ_QUERY); /* an empty item */
    GIVES(DURALOG_OK, eventstore_query_close(query));
#undef REFUSED
    HOLDS(cursor == kept);

    GIVES(DURALOG_OK, eventstore_read(store, NULL, &cursor));
    GIVES(INVALID, eventstore_cursor_next(cursor, NULL));
    GIVES(INVALID, eventstore_cursor_next_page(cursor, 1, NULL));
    GIVES(INVALID, eventstore_cursor_next_page(cursor, 0, &page));
    GIVES(INVALID, eventstore_cursor_event_at(cursor, 1, NULL));
    GIVES(INVALID, eventstore_cursor_event_by_id(cursor, NULL, &event));
    GIVES(INVALID, eventstore_cursor_event_by_id(cursor, small, NULL));
    for (i = 0; i < BAD_COUNT; i++) {
        event.struct_size = BAD_SIZES[i];
        page.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_cursor_next(cursor, &event));
        GIVES(INVALID, eventstore_cursor_next_page(cursor, 1, &page));
        GIVES(INVALID, eventstore_cursor_event_at(cursor, 1, &event));
        GIVES(INVALID, eventstore_cursor_event_by_id(cursor, small, &event));
    }
    event.struct_size = sizeof event;
    page.struct_size = sizeof page;
    GIVES(DURALOG_END, eventstore_cursor_next(cursor, &event));
    GIVES(DURALOG_END, eventstore_cursor_next_page(cursor, SIZE_MAX, &page));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_cursor_event_at(cursor, 0, &event));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_cursor_event_at(cursor, 1, &event));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_cursor_event_at(cursor, UINT64_MAX, &event));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_cursor_event_by_id(cursor, small, &event));
    HOLDS(event.position == 0 && page.count == 0 && page.bytes == NULL);
    GIVES(DURALOG_OK, eventstore_cursor_close(cursor));

    GIVES(INVALID, eventstore_tag_next(NULL, 1, &at, &tag, &len));
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, NULL, &tag, &len));
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, &at, NULL, &len));
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, &at, &tag, NULL));
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, &at, &tag, &len));
    GIVES(INVALID, eventstore_tag_next(bad_tags, SIZE_MAX, &at, &tag, &len));
    at = 3;
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, &at, &tag, &len));
    at = SIZE_MAX;
    GIVES(INVALID, eventstore_tag_next(bad_tags, 2, &at, &tag, &len));
    HOLDS(at == SIZE_MAX && tag == NULL && len == 77);
    at = 0;
    GIVES(DURALOG_END, eventstore_tag_next(NULL, 0, &at, &tag, &len));
}

static void pages_are_packed_or_refused(void)
{
    static const uint8_t bytes[] = "s-1MadetextmddSoldDDDs-2";
    static const uint64_t numbers[] = {1, 2, 3};
    static const uint64_t times[] = {4, 5, 6};
    static const int64_t occurred[] = {0, -7, 0};
    static const uint8_t flags[] = "abc";
    static const uint8_t tag_counts[] = "def";
    static const uint8_t ids[] = "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCC";
    static const uint32_t stream_begin[] = {0, 21, 0};
    static const uint32_t stream_end[] = {3, 24, 3};
    static const uint32_t type_begin[] = {3, 14, 3};
    static const uint32_t type_end[] = {7, 18, 7};
    static const uint32_t content_begin[] = {7, 9, 9};
    static const uint32_t content_end[] = {11, 9, 9};
    static const uint32_t nothing[] = {0, 24, 24};
    static const uint32_t metadata_begin[] = {11, 1, 1};
    static const uint32_t metadata_end[] = {12, 1, 1};
    static const uint32_t data_begin[] = {12, 18, 12};
    static const uint32_t data_end[] = {14, 21, 14};
    static const uint32_t beyond[] = {14, 25, 14};
    static const uint64_t head[] = {3, 2, UINT64_MAX, 127, 390, 401, 410, 417};
    static const uint64_t head_of_least[] = {3, 2, UINT64_MAX, 127, 127, 127, 136, 143};
    static const uint32_t lens[] = {2, 3, 2};
    static const uint32_t rest_lens[] = {4, 0, 0, 0, 0, 0, 1, 0, 0};
    uint8_t buffer[512];
    size_t len = 77;
    size_t i;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    const uint32_t all = EVENTSTORE_PACK_STREAMS | EVENTSTORE_PACK_REST;

    page.count = 3;
    page.position = page.stream_version = page.schema_version = numbers;
    page.time_ns = times;
    page.occurred_ns = occurred;
    page.flags = flags;
    page.tag_count = tag_counts;
    page.id = page.correlation_id = page.causation_id = ids;
    page.stream_begin = stream_begin;
    page.stream_end = stream_end;
    page.event_type_begin = type_begin;
    page.event_type_end = type_end;
    page.content_type_begin = content_begin;
    page.content_type_end = content_end;
    page.tags_begin = page.tags_end = nothing;
    page.metadata_begin = metadata_begin;
    page.metadata_end = metadata_end;
    page.data_begin = data_begin;
    page.data_end = data_end;
    page.bytes = bytes;
    page.bytes_len = 24;
    memset(buffer, '.', sizeof buffer);

    GIVES(INVALID, eventstore_page_pack(NULL, all, buffer, sizeof buffer, &len));
    GIVES(INVALID, eventstore_page_pack(&page, all, buffer, sizeof buffer, NULL));
    GIVES(INVALID, eventstore_page_pack(&page, all, NULL, 1, &len));
    GIVES(INVALID, eventstore_page_pack(&page, 4, buffer, sizeof buffer, &len));
    for (i = 0; i < BAD_COUNT; i++) {
        page.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_page_pack(&page, all, buffer, sizeof buffer, &len));
    }
    page.struct_size = sizeof page;
    GIVES(INVALID, eventstore_page_pack(&page, all, buffer, SIZE_MAX, &len));
    for (i = 0; i < HUGE_COUNT; i++) {
        page.count = HUGE_LENGTHS[i];
        GIVES(INVALID, eventstore_page_pack(&page, all, buffer, sizeof buffer, &len));
        page.count = 3;
    }
    page.causation_id = NULL;
    GIVES(INVALID, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    page.causation_id = ids;
    page.data_end = beyond;
    GIVES(INVALID, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    page.data_end = data_end;
    page.stream_begin = stream_end; /* Whether it is wanted or not. */
    page.stream_end = stream_begin;
    GIVES(INVALID, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    page.stream_begin = stream_begin;
    page.stream_end = stream_end;
    HOLDS(len == 77);
    GIVES(DURALOG_E_BUFFER_TOO_SMALL, eventstore_page_pack(&page, all, buffer, 421, &len));
    HOLDS(len == 422 && buffer[0] == '.');
    GIVES(DURALOG_E_BUFFER_TOO_SMALL, eventstore_page_pack(&page, 0, NULL, 0, &len));
    HOLDS(len == 148);

    GIVES(DURALOG_OK, eventstore_page_pack(&page, all, buffer, 422, &len));
    HOLDS(len == 417 && memcmp(buffer, head, 64) == 0 && buffer[422] == '.');
    HOLDS(memcmp(buffer + 64, numbers, 24) == 0 && memcmp(buffer + 88, numbers, 24) == 0);
    HOLDS(memcmp(buffer + 112, lens, 12) == 0 && memcmp(buffer + 124, "\0\1\0", 3) == 0);
    HOLDS(memcmp(buffer + 127, times, 24) == 0 && memcmp(buffer + 151, numbers, 24) == 0);
    HOLDS(memcmp(buffer + 175, occurred, 24) == 0);
    for (i = 0; i < 3; i++)
        HOLDS(memcmp(buffer + 199 + 48 * i, ids, 48) == 0);
    HOLDS(memcmp(buffer + 343, rest_lens, 36) == 0 && memcmp(buffer + 379, "abcdef", 6) == 0);
    HOLDS(memcmp(buffer + 385, "textms-1\0s-2\0s-1Made\0SoldddDDDdd", 32) == 0);
    GIVES(DURALOG_OK, eventstore_page_pack(&page, 0, buffer, 148, &len));
    HOLDS(len == 143 && memcmp(buffer, head_of_least, 64) == 0);
    HOLDS(memcmp(buffer + 127, "Made\0SoldddDDDdd", 16) == 0);
    page.data_begin = type_begin;
    page.data_end = type_end;
    GIVES(DURALOG_OK, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    memcpy(&len, buffer + 16, sizeof len);
    HOLDS(len == 4);
    page.count = 0;
    GIVES(DURALOG_OK, eventstore_page_pack(&page, all, buffer, 64, &len));
    HOLDS(len == 64);
}

static void types_that_are_too_many_are_packed_as_they_come(void)
{
    enum { COUNT = 258, TYPES_AT = 64 + 21 * COUNT };
    static uint64_t zeros[2 * COUNT];
    static uint32_t begin[COUNT];
    static uint32_t end[COUNT];
    static uint8_t bytes[2 * COUNT];
    static uint8_t buffer[TYPES_AT + 3 * COUNT];
    uint64_t head[8];
    size_t len = 77;
    uint32_t i;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;

    page.position = page.stream_version = page.time_ns = page.schema_version = zeros;
    page.occurred_ns = (const int64_t *)zeros;
    page.flags = page.tag_count = (const uint8_t *)zeros;
    page.id = page.correlation_id = page.causation_id = (const uint8_t *)zeros;
    page.stream_begin = page.stream_end = page.content_type_begin = page.content_type_end =
        page.tags_begin = page.tags_end = page.metadata_begin = page.metadata_end =
            page.data_begin = page.data_end = (const uint32_t *)zeros;
    page.event_type_begin = begin;
    page.event_type_end = end;
    page.bytes = bytes;
    page.bytes_len = sizeof bytes;
    for (i = 0; i < COUNT; i++) {
        bytes[2 * i] = (uint8_t)('a' + i % 16);
        bytes[2 * i + 1] = (uint8_t)('a' + i / 16);
        begin[i] = 2 * i;
        end[i] = 2 * i + 2;
    }
    memset(buffer, '.', sizeof buffer);
    page.count = 256;
    GIVES(DURALOG_OK, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    memcpy(head, buffer, sizeof head);
    HOLDS(head[1] == 256 && buffer[64 + 20 * 256 + 255] == 255);
    page.count = COUNT;
    GIVES(DURALOG_OK, eventstore_page_pack(&page, 0, buffer, sizeof buffer, &len));
    memcpy(head, buffer, sizeof head);
    HOLDS(head[0] == COUNT && head[1] == 0 && head[2] == 0 && head[5] == TYPES_AT);
    HOLDS(head[7] == TYPES_AT + 3 * COUNT - 1 && len == head[7]);
    for (i = 0; i < COUNT; i++) {
        HOLDS(buffer[64 + 20 * COUNT + i] == 0);
        HOLDS(memcmp(buffer + TYPES_AT + 3 * i, bytes + 2 * i, 2) == 0);
    }
}

static void facts_refuse(eventstore_t *store)
{
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    eventstore_stat_t stat = EVENTSTORE_STAT_INIT;
    eventstore_index_report_t index = EVENTSTORE_INDEX_REPORT_INIT;
    eventstore_names_page_t page = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_names_t *names = NULL;
    uint64_t position = 77;
    int32_t batch_status = 77;
    size_t len = 77;
    size_t i;

    GIVES(INVALID, eventstore_last_position(store, NULL));
    GIVES(INVALID, eventstore_stat(store, NULL));
    GIVES(INVALID, eventstore_wal_stat(store, NULL));
    GIVES(INVALID, eventstore_recovery_report(store, NULL));
    GIVES(INVALID, eventstore_verify_index(store, NULL, NULL, NULL));
    GIVES(INVALID, eventstore_batch_status(store, 4096, NULL));
    GIVES(DURALOG_OK, eventstore_batch_status(store, UINT64_MAX, &batch_status));
    HOLDS(batch_status == WAL_BATCH_ABSENT);
    GIVES(INVALID, eventstore_stream_info(store, "s", 1, NULL));
    GIVES(INVALID, eventstore_stream_info(store, NULL, 1, &info));
    GIVES(INVALID, eventstore_stream_info(store, text, 1025, &info));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_stream_info(store, "s", 1, &info));
    GIVES(INVALID, eventstore_saved_position(store, "n", 1, NULL));
    GIVES(INVALID, eventstore_saved_position(store, NULL, 0, &position));
    GIVES(INVALID, eventstore_saved_position(store, text, 256, &position));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_saved_position(store, "n", 1, &position));
    GIVES(INVALID, eventstore_state(store, small, 1, small, 1, NULL));
    GIVES(INVALID, eventstore_state(store, small, 0, small, 1, &len));
    GIVES(INVALID, eventstore_state(store, NULL, 1, small, 1, &len));
    GIVES(INVALID, eventstore_state(store, small, 1, NULL, 1, &len));
    GIVES(INVALID, eventstore_state(store, small, 1, small, SIZE_MAX, &len));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_state(store, small, 1, NULL, 0, &len));
    GIVES(INVALID, eventstore_names_open(store, 0, NULL, 0, &names));
    GIVES(INVALID, eventstore_names_open(store, 5, NULL, 0, &names));
    GIVES(INVALID, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, NULL, 1, &names));
    GIVES(INVALID, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, text, 1025, &names));
    GIVES(INVALID, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, bad_utf8, 2, &names));
    GIVES(INVALID, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, NULL, 0, NULL));
    HOLDS(names == NULL && position == 77 && len == 77 && info.stream_version == 0);
    for (i = 0; i < HUGE_COUNT; i++) {
        GIVES(INVALID, eventstore_stream_info(store, text, HUGE_LENGTHS[i], &info));
        GIVES(INVALID, eventstore_saved_position(store, text, HUGE_LENGTHS[i], &position));
        GIVES(INVALID, eventstore_state(store, small, HUGE_LENGTHS[i], NULL, 0, &len));
        GIVES(INVALID, eventstore_names_open(store, 1, text, HUGE_LENGTHS[i], &names));
    }
    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, NULL, 0, &names));
    GIVES(INVALID, eventstore_names_next_page(names, 1, NULL));
    GIVES(INVALID, eventstore_names_next_page(names, 0, &page));
    for (i = 0; i < BAD_COUNT; i++) {
        info.struct_size = BAD_SIZES[i];
        stat.struct_size = BAD_SIZES[i];
        index.struct_size = BAD_SIZES[i];
        page.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_stream_info(store, "s", 1, &info));
        GIVES(INVALID, eventstore_stat(store, &stat));
        GIVES(INVALID, eventstore_verify_index(store, NULL, NULL, &index));
        GIVES(INVALID, eventstore_names_next_page(names, 1, &page));
    }
    page.struct_size = sizeof page;
    GIVES(DURALOG_END, eventstore_names_next_page(names, SIZE_MAX, &page));
    GIVES(DURALOG_OK, eventstore_names_close(names));
}

static void following_refuses(eventstore_t *store)
{
    eventstore_subscription_t *const kept = (eventstore_subscription_t *)small;
    eventstore_subscription_t *subscription = kept;
    eventstore_read_t good = EVENTSTORE_READ_INIT;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    size_t i;

    GIVES(INVALID, eventstore_subscribe(store, NULL, 4, 0, NULL, 0, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, UINT32_MAX, 0, NULL, 0, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, 0, 1, NULL, 0, &subscription));
    GIVES(INVALID,
          eventstore_subscribe(store, NULL, EVENTSTORE_FROM_SAVED, 0, NULL, 0, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, 0, 0, NULL, 1, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, 0, 0, text, 256, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, 0, 0, bad_utf8, 3, &subscription));
    GIVES(INVALID, eventstore_subscribe(store, NULL, 0, 0, NULL, 0, NULL));
    for (i = 0; i < HUGE_COUNT; i++)
        GIVES(INVALID,
              eventstore_subscribe(store, NULL, 0, 0, text, HUGE_LENGTHS[i], &subscription));
#define REFUSED(field, value)                                                                     \
    do {                                                                                          \
        read.field = (value);                                                                     \
        GIVES(INVALID, eventstore_subscribe(store, &read, 0, 0, NULL, 0, &subscription));         \
        read = good;                                                                              \
    } while (0)
    for (i = 0; i < BAD_COUNT; i++)
        REFUSED(struct_size, BAD_SIZES[i]);
    REFUSED(direction, EVENTSTORE_READ_BACKWARD);
    REFUSED(first, 1);
    REFUSED(last, 1);
    REFUSED(limit, 1);
    REFUSED(selection, EVENTSTORE_READ_QUERY);
    REFUSED(selection, EVENTSTORE_READ_STREAM);
#undef REFUSED
    HOLDS(subscription == kept);

    GIVES(DURALOG_OK, eventstore_subscribe(store, NULL, EVENTSTORE_FROM_AFTER, UINT64_MAX, NULL, 0,
                                           &subscription));
    GIVES(DURALOG_END, eventstore_subscription_next_page(subscription, 1, 0, &page));
    GIVES(DURALOG_OK, eventstore_subscription_close(subscription));
    GIVES(DURALOG_OK, eventstore_subscribe(store, NULL, 0, 0, NULL, 0, &subscription));
    GIVES(INVALID, eventstore_subscription_next_page(subscription, 0, 0, &page));
    GIVES(INVALID, eventstore_subscription_next_page(subscription, 1, 0, NULL));
    GIVES(INVALID, eventstore_subscription_position(subscription, NULL));
    GIVES(INVALID, eventstore_subscription_fd(subscription, NULL));
    GIVES(INVALID, eventstore_subscription_ack(subscription, 1)); /* it has no name */
    for (i = 0; i < BAD_COUNT; i++) {
        page.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_subscription_next_page(subscription, 1, 0, &page));
    }
    page.struct_size = sizeof page;
    GIVES(DURALOG_END, eventstore_subscription_next_page(subscription, SIZE_MAX, 1, &page));
    HOLDS(page.count == 0 && page.bytes == NULL);
    GIVES(DURALOG_OK, eventstore_subscription_close(subscription));
}

static void snapshots_refuse(eventstore_t *store)
{
    eventstore_snapshot_t *snapshot = NULL;
    eventstore_snapshot_info_t info = EVENTSTORE_SNAPSHOT_INFO_INIT;
    const uint8_t *bytes = (const uint8_t *)text;
    size_t i;

    GIVES(INVALID, eventstore_snapshot_save(store, NULL, 0, 1, 0, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, bytes, 1025, 1, 0, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, 0, NULL, 1, small, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, 0, bytes, 256, small, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, 0, NULL, 0, NULL, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, 1, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, UINT64_MAX, NULL, 0, small, 1));
    GIVES(INVALID, eventstore_snapshot_load(store, NULL, 0, 1, NULL, 0, &snapshot));
    GIVES(INVALID, eventstore_snapshot_load(store, small, 1, 1, NULL, 1, &snapshot));
    GIVES(INVALID, eventstore_snapshot_load(store, small, 1, 1, NULL, 0, NULL));
    GIVES(INVALID, eventstore_snapshot_delete(store, NULL, 0));
    for (i = 0; i < HUGE_COUNT; i++) {
        const size_t huge = HUGE_LENGTHS[i];
        GIVES(INVALID, eventstore_snapshot_save(store, small, huge, 1, 0, NULL, 0, small, 1));
        GIVES(INVALID, eventstore_snapshot_save(store, small, 1, 1, 0, small, huge, small, 1));
        GIVES(i < 3 ? INVALID : DURALOG_E_TOO_LARGE,
              eventstore_snapshot_save(store, small, 1, 1, 0, NULL, 0, small, huge));
        GIVES(INVALID, eventstore_snapshot_load(store, small, huge, 1, NULL, 0, &snapshot));
        GIVES(INVALID, eventstore_snapshot_delete(store, small, huge));
    }
    GIVES(DURALOG_E_NOT_FOUND,
          eventstore_snapshot_load(store, small, 1, UINT64_MAX, NULL, 0, &snapshot));
    HOLDS(snapshot == NULL);
    GIVES(DURALOG_OK, eventstore_snapshot_save(store, small, 1, 7, 0, NULL, 0, NULL, 0));
    GIVES(DURALOG_OK, eventstore_snapshot_load(store, small, 1, UINT64_MAX, NULL, 0, &snapshot));
    GIVES(INVALID, eventstore_snapshot_info(snapshot, NULL));
    for (i = 0; i < BAD_COUNT; i++) {
        info.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_snapshot_info(snapshot, &info));
    }
    HOLDS(info.version == 0);
    info.struct_size = sizeof info;
    GIVES(DURALOG_OK, eventstore_snapshot_info(snapshot, &info));
    HOLDS(info.version == 7 && info.data != NULL && info.data_len == 0);
    GIVES(DURALOG_OK, eventstore_snapshot_close(snapshot));
    GIVES(DURALOG_OK, eventstore_snapshot_delete(store, small, 1));
}

int main(int argc, char **argv)
{
    char path[4096];
    char absent[4096];
    eventstore_t *store = NULL;
    eventstore_append_t *batch = NULL;
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_stat_t stat = EVENTSTORE_STAT_INIT;
    wal_stat_t before = WAL_STAT_INIT;
    wal_stat_t after = WAL_STAT_INIT;

    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/store", argv[1]);
    snprintf(absent, sizeof absent, "%s/absent", argv[1]);

    null_handles();
    query_refuses();
    open_refuses(path, absent);
    GIVES(DURALOG_OK, eventstore_open(path, NULL, &store));
    GIVES(DURALOG_OK, eventstore_append_open(&batch));
    if (store == NULL || batch == NULL)
        return 1;
    GIVES(DURALOG_OK, eventstore_wal_stat(store, &before));
    event_refuses(batch);
    rest_of_batch_refuses(batch);
    columns_refuse(batch);
    append_refuses(store, batch);
    reading_refuses(store);
    pages_are_packed_or_refused();
    types_that_are_too_many_are_packed_as_they_come();
    following_refuses(store);
    facts_refuse(store);
    snapshots_refuse(store);
    GIVES(DURALOG_OK, eventstore_wal_stat(store, &after));
    HOLDS(after.last_seq == before.last_seq && after.written_bytes == before.written_bytes);

    /* After all that, both are as good as new. */
    event.stream = text;
    event.stream_len = 4;
    event.event_type = "T";
    event.event_type_len = 1;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(DURALOG_OK, eventstore_append(store, batch, EVENTSTORE_APPEND_DURABLE, &receipt));
    HOLDS(receipt.first_position == 1 && receipt.last_position == 1 && receipt.stream_count == 1);
    GIVES(DURALOG_OK, eventstore_stat(store, &stat));
    HOLDS(stat.last_position == 1);
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    GIVES(DURALOG_OK, eventstore_close(store));
    return check_result();
}
