/*
 * What the event store gives back of what it was given, in each of the ways to write and to read;
 * what is borrowed, who releases what and in which order, which thread may do it.
 *
 * Run by tests/c_face.rs with an empty directory, also under valgrind, which is what sees a borrow
 * that ended too early and a handle that was not released.
 */

#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>

#define THREAD_COUNT 4
#define APPENDS_PER_THREAD 25

static const uint8_t ID_A[16] = {0xA, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t ID_B[16] = {0xB, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t ID_C[16] = {0xC, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t NO_ID[16] = {0};

static eventstore_t *open_store(const char *directory, const char *name)
{
    char path[4200];
    eventstore_t *store = NULL;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    GIVES(DURALOG_OK, eventstore_open(path, NULL, &store));
    if (store == NULL)
        exit(1);
    return store;
}

static eventstore_append_t *new_batch(void)
{
    eventstore_append_t *batch = NULL;
    GIVES(DURALOG_OK, eventstore_append_open(&batch));
    if (batch == NULL)
        exit(1);
    return batch;
}

static void add(eventstore_append_t *batch, const char *stream, const char *type, const char *data)
{
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    event.stream = stream;
    event.stream_len = strlen(stream);
    event.event_type = type;
    event.event_type_len = strlen(type);
    event.data = BYTES(data);
    event.data_len = strlen(data);
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
}

static int is(const void *bytes, size_t len, const char *text)
{
    return bytes != NULL && len == strlen(text) && memcmp(bytes, text, len) == 0;
}

static void check_full_event(const eventstore_event_t *event)
{
    static const char *const expected[] = {"course:c1", "student:s1"};
    const char *tag = NULL;
    size_t tag_len = 0;
    size_t at = 0;
    size_t i;

    HOLDS(event->flags
          == (EVENTSTORE_EVENT_OWN_ID | EVENTSTORE_EVENT_FIRST | EVENTSTORE_EVENT_METADATA
              | EVENTSTORE_EVENT_OCCURRED | EVENTSTORE_EVENT_CORRELATION
              | EVENTSTORE_EVENT_CAUSATION));
    HOLDS(is(event->stream, event->stream_len, "course-c\xC3\xA9"));
    HOLDS(is(event->event_type, event->event_type_len, "Defined"));
    HOLDS(is(event->content_type, event->content_type_len, "application/json"));
    HOLDS(is(event->data, event->data_len, "[1,2]"));
    HOLDS(is(event->metadata, event->metadata_len, "{}"));
    HOLDS(memcmp(event->correlation_id, ID_B, 16) == 0);
    HOLDS(memcmp(event->causation_id, ID_C, 16) == 0);
    HOLDS(event->occurred_ns == -5 && event->schema_version == UINT64_C(1) << 40);
    HOLDS(event->time_ns > UINT64_C(1500000000000000000));
    HOLDS(event->tag_count == 2);
    for (i = 0; i < 2; i++) {
        GIVES(DURALOG_OK,
              eventstore_tag_next(event->tags, event->tags_len, &at, &tag, &tag_len));
        HOLDS(is(tag, tag_len, expected[i]));
    }
    GIVES(DURALOG_END, eventstore_tag_next(event->tags, event->tags_len, &at, &tag, &tag_len));
}

static void check_plain_event(const eventstore_event_t *event)
{
    HOLDS(event->flags == EVENTSTORE_EVENT_LAST && event->tag_count == 0);
    HOLDS(is(event->stream, event->stream_len, "student-s1"));
    HOLDS(is(event->event_type, event->event_type_len, "Joined"));
    HOLDS(is(event->content_type, event->content_type_len, ""));
    HOLDS(is(event->data, event->data_len, "") && is(event->metadata, event->metadata_len, ""));
    HOLDS(is(event->tags, event->tags_len, "") && event->schema_version == 0);
    HOLDS(event->occurred_ns == 0 && memcmp(event->correlation_id, NO_ID, 16) == 0);
    HOLDS(memcmp(event->causation_id, NO_ID, 16) == 0 && memcmp(event->id, NO_ID, 16) != 0);
}

/* Positions 1 and 2 one by one, 3 and 4 in columns: the same but for the first one's id. */
static void events_added_in_two_ways_are_the_same(eventstore_t *store)
{
    static const char *const tags[] = {"student:s1", "course:c1", "student:s1"};
    static const size_t tag_lens[] = {10, 9, 10};
    static const uint32_t stream_lens[] = {10, 10};
    static const uint32_t event_type_lens[] = {7, 6};
    static const uint32_t content_type_lens[] = {16, 0};
    static const uint32_t tag_counts[] = {3, 0};
    static const uint32_t column_tag_lens[] = {10, 9, 10};
    static const uint32_t data_lens[] = {5, 0};
    static const uint32_t metadata_lens[] = {2, 0};
    static const uint64_t schema_versions[] = {UINT64_C(1) << 40, 0};
    static const int64_t occurred_ns[] = {-5, 77};
    static const uint8_t has_occurred[] = {1, 0};
    uint8_t ids[32] = {0};
    uint8_t correlation_ids[32] = {0};
    uint8_t causation_ids[32] = {0};
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_columns_t columns = EVENTSTORE_COLUMNS_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_stream_versions_t versions = EVENTSTORE_STREAM_VERSIONS_INIT;
    eventstore_event_t found = EVENTSTORE_EVENT_INIT;
    eventstore_append_t *batch = new_batch();
    eventstore_cursor_t *cursor = NULL;
    const char *name = NULL;
    size_t len = 0;
    uint64_t version = 0;

    event.stream = "course-c\xC3\xA9";
    event.stream_len = 10;
    event.event_type = "Defined";
    event.event_type_len = 7;
    event.content_type = "application/json";
    event.content_type_len = 16;
    event.data = BYTES("[1,2]");
    event.data_len = 5;
    event.metadata = BYTES("{}");
    event.metadata_len = 2;
    event.tags = tags;
    event.tag_lens = tag_lens;
    event.tag_count = 3;
    event.id = ID_A;
    event.correlation_id = ID_B;
    event.causation_id = ID_C;
    event.schema_version = UINT64_C(1) << 40;
    event.has_occurred = 1;
    event.occurred_ns = -5;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    add(batch, "student-s1", "Joined", "");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &receipt));
    HOLDS(receipt.first_position == 1 && receipt.last_position == 2 && receipt.duplicate == 0);
    HOLDS(receipt.batch_id > 0 && receipt.stream_count == 2);
    GIVES(DURALOG_OK, eventstore_append_stream_version(batch, 1, &name, &len, &version));
    HOLDS(is(name, len, "student-s1") && version == 1);
    GIVES(DURALOG_OK, eventstore_append_stream_versions(batch, &versions));
    HOLDS(versions.count == 2 && versions.struct_size == sizeof versions);
    HOLDS(versions.stream_version[0] == 1 && versions.stream_version[1] == 1);
    HOLDS(is(versions.bytes, versions.bytes_len, "course-c\xC3\xA9student-s1"));
    HOLDS(versions.stream_begin[1] == versions.stream_end[0]);
    HOLDS(is(versions.bytes + versions.stream_begin[1], versions.stream_end[1] - versions.stream_begin[1],
             "student-s1"));

    memcpy(ids, ID_B, 16);
    memcpy(correlation_ids, ID_B, 16);
    memcpy(causation_ids, ID_C, 16);
    columns.count = 2;
    columns.stream_lens = stream_lens;
    columns.event_type_lens = event_type_lens;
    columns.content_type_lens = content_type_lens;
    columns.tag_counts = tag_counts;
    columns.tag_lens = column_tag_lens;
    columns.data_lens = data_lens;
    columns.metadata_lens = metadata_lens;
    columns.ids = ids;
    columns.correlation_ids = correlation_ids;
    columns.causation_ids = causation_ids;
    columns.schema_versions = schema_versions;
    columns.occurred_ns = occurred_ns;
    columns.has_occurred = has_occurred;
    columns.bytes = BYTES("course-c\xC3\xA9student-s1DefinedJoinedapplication/json"
                          "student:s1course:c1student:s1[1,2]{}");
    columns.bytes_len = strlen((const char *)columns.bytes);
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_E_INVALID_ARGUMENT, eventstore_append_stream_version(batch, 0, &name, &len, &version));
    GIVES(DURALOG_OK, eventstore_append_add_columns(batch, &columns));
    memset(ids, 0xFF, sizeof ids); /* all was copied */
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &receipt));
    HOLDS(receipt.first_position == 3 && receipt.last_position == 4);

    GIVES(DURALOG_OK, eventstore_read(store, NULL, &cursor));
    for (version = 1; version <= 2; version++) {
        memset((char *)&found + sizeof found.struct_size, 0xA5,
               sizeof found - sizeof found.struct_size);
        GIVES(DURALOG_OK, eventstore_cursor_next(cursor, &found));
        HOLDS(found.position == 2 * version - 1 && found.stream_version == version);
        HOLDS(memcmp(found.id, version == 1 ? ID_A : ID_B, 16) == 0);
        check_full_event(&found);
        GIVES(DURALOG_OK, eventstore_cursor_next(cursor, &found));
        HOLDS(found.position == 2 * version && found.stream_version == version);
        check_plain_event(&found);
    }
    GIVES(DURALOG_END, eventstore_cursor_next(cursor, &found));

    /* The end is not final, and looking up does not move the cursor. */
    GIVES(DURALOG_OK, eventstore_cursor_event_by_id(cursor, ID_B, &found));
    HOLDS(found.position == 3);
    check_full_event(&found);
    GIVES(DURALOG_OK, eventstore_cursor_event_at(cursor, 4, &found));
    check_plain_event(&found);
    memcpy(ids, found.id, 16);
    GIVES(DURALOG_OK, eventstore_cursor_event_by_id(cursor, ids, &found));
    HOLDS(found.position == 4);
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    add(batch, "more", "More", "data");
    GIVES(DURALOG_OK, eventstore_append(store, batch, EVENTSTORE_APPEND_DURABLE, NULL));
    GIVES(DURALOG_OK, eventstore_cursor_next(cursor, &found));
    HOLDS(found.position == 5 && is(found.data, found.data_len, "data"));
    GIVES(DURALOG_END, eventstore_cursor_next(cursor, &found));
    GIVES(DURALOG_OK, eventstore_cursor_close(cursor));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}

static int same(const eventstore_page_t *page, const uint32_t *begin, const uint32_t *end, size_t i,
                const void *bytes, size_t len)
{
    return end[i] - begin[i] == len && end[i] <= page->bytes_len
        && memcmp(page->bytes + begin[i], bytes, len) == 0;
}

static void pages_show_what_single_events_show(eventstore_t *store)
{
    eventstore_cursor_t *singly = NULL;
    eventstore_cursor_t *paged = NULL;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    duralog_status_t status;
    size_t total = 0;
    size_t i;

    GIVES(DURALOG_OK, eventstore_read(store, NULL, &singly));
    GIVES(DURALOG_OK, eventstore_read(store, NULL, &paged));
    /* Begun singly: what is left of that page comes first. */
    GIVES(DURALOG_OK, eventstore_cursor_next(singly, &event));
    GIVES(DURALOG_OK, eventstore_cursor_next(paged, &event));
    while ((status = eventstore_cursor_next_page(paged, 3, &page)) == DURALOG_OK) {
        HOLDS(page.count >= 1 && page.count <= 3);
        for (i = 0; i < page.count; i++, total++) {
            GIVES(DURALOG_OK, eventstore_cursor_next(singly, &event));
            HOLDS(page.position[i] == event.position && page.time_ns[i] == event.time_ns);
            HOLDS(page.stream_version[i] == event.stream_version);
            HOLDS(page.schema_version[i] == event.schema_version);
            HOLDS(page.occurred_ns[i] == event.occurred_ns && page.flags[i] == event.flags);
            HOLDS(page.tag_count[i] == event.tag_count);
            HOLDS(memcmp(page.id + 16 * i, event.id, 16) == 0);
            HOLDS(memcmp(page.correlation_id + 16 * i, event.correlation_id, 16) == 0);
            HOLDS(memcmp(page.causation_id + 16 * i, event.causation_id, 16) == 0);
            HOLDS(same(&page, page.stream_begin, page.stream_end, i, event.stream,
                       event.stream_len));
            HOLDS(same(&page, page.event_type_begin, page.event_type_end, i, event.event_type,
                       event.event_type_len));
            HOLDS(same(&page, page.content_type_begin, page.content_type_end, i,
                       event.content_type, event.content_type_len));
            HOLDS(same(&page, page.tags_begin, page.tags_end, i, event.tags, event.tags_len));
            HOLDS(same(&page, page.metadata_begin, page.metadata_end, i, event.metadata,
                       event.metadata_len));
            HOLDS(same(&page, page.data_begin, page.data_end, i, event.data, event.data_len));
        }
    }
    GIVES(DURALOG_END, status);
    GIVES(DURALOG_END, eventstore_cursor_next(singly, &event));
    HOLDS(total == 4);
    GIVES(DURALOG_OK, eventstore_cursor_close(paged));
    GIVES(DURALOG_OK, eventstore_cursor_close(singly));
}

/* Of the five events that are there. */
static void a_page_says_whether_anything_stood_behind_it(eventstore_t *store)
{
    eventstore_cursor_t *cursor = NULL;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    uint32_t backward;

    for (backward = 0; backward < 2; backward++) {
        read.direction = backward;
        read.limit = 0;
        GIVES(DURALOG_OK, eventstore_read(store, &read, &cursor));
        GIVES(DURALOG_OK, eventstore_cursor_next_page(cursor, 3, &page));
        HOLDS(page.count == 3 && page.at_end == 0);
        GIVES(DURALOG_OK, eventstore_cursor_next_page(cursor, 3, &page));
        HOLDS(page.count == 2 && page.at_end == 1);
        GIVES(DURALOG_END, eventstore_cursor_next_page(cursor, 3, &page));
        GIVES(DURALOG_OK, eventstore_cursor_close(cursor));

        /* All are fetched for the first event; but not all are given at once. */
        GIVES(DURALOG_OK, eventstore_read(store, &read, &cursor));
        GIVES(DURALOG_OK, eventstore_cursor_next(cursor, &event));
        GIVES(DURALOG_OK, eventstore_cursor_next_page(cursor, 2, &page));
        HOLDS(page.count == 2 && page.at_end == 0);
        GIVES(DURALOG_OK, eventstore_cursor_next_page(cursor, 2, &page));
        HOLDS(page.count == 2 && page.at_end == 1);
        GIVES(DURALOG_OK, eventstore_cursor_close(cursor));

        /* Nothing more than what was asked for. */
        read.limit = 2;
        GIVES(DURALOG_OK, eventstore_read(store, &read, &cursor));
        GIVES(DURALOG_OK, eventstore_cursor_next_page(cursor, 3, &page));
        HOLDS(page.count == 2 && page.at_end == 1);
        GIVES(DURALOG_END, eventstore_cursor_next_page(cursor, 3, &page));
        GIVES(DURALOG_OK, eventstore_cursor_close(cursor));
    }
}

static void check_positions(int line, eventstore_t *store, const eventstore_read_t *read,
                            const char *expected)
{
    eventstore_cursor_t *cursor = NULL;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    char found[64] = "";
    size_t len = 0;

    check_status(line, "eventstore_read", eventstore_read(store, read, &cursor), DURALOG_OK);
    while (eventstore_cursor_next(cursor, &event) == DURALOG_OK && len < sizeof found - 1)
        found[len++] = (char)('0' + event.position);
    check_that(line, expected, strcmp(found, expected) == 0);
    GIVES(DURALOG_OK, eventstore_cursor_close(cursor));
}
#define READS(expected) check_positions(__LINE__, store, &read, (expected))

static void selections_show_their_events(eventstore_t *store)
{
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_query_t *query = NULL;

    READS("12345");
    read.first = 2;
    read.last = 4;
    READS("234");
    read.limit = 2;
    READS("23");
    read.direction = EVENTSTORE_READ_BACKWARD;
    read.first = 4;
    read.last = 1;
    READS("43");
    read.limit = 0;
    read.last = 0;
    READS("4321");
    read.first = 0;
    read.selection = EVENTSTORE_READ_STREAM;
    read.name = "student-s1";
    read.name_len = 10;
    READS("42");
    read.direction = EVENTSTORE_READ_FORWARD;
    read.first = 2; /* of a stream, a version */
    READS("4");
    read.first = 0;
    read.selection = EVENTSTORE_READ_CATEGORY;
    read.name = "course";
    read.name_len = 6;
    READS("13");
    GIVES(DURALOG_OK, eventstore_query_open(&query));
    read.selection = EVENTSTORE_READ_QUERY;
    read.name = NULL;
    read.name_len = 0;
    read.query = query;
    READS("12345"); /* without items */
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    GIVES(DURALOG_OK, eventstore_query_add_tag(query, "course:c1", 9));
    GIVES(DURALOG_OK, eventstore_query_add_tag(query, "student:s1", 10));
    READS("13");
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    GIVES(DURALOG_OK, eventstore_query_add_type(query, "More", 4));
    GIVES(DURALOG_OK, eventstore_query_add_type(query, "Less", 4));
    READS("135");
    GIVES(DURALOG_OK, eventstore_query_close(query));
}

static void conflicts_are_told_together_and_the_batch_stays(eventstore_t *store)
{
    eventstore_append_t *batch = new_batch();
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_conflict_t conflict = EVENTSTORE_CONFLICT_INIT;
    eventstore_query_t *query = NULL;
    size_t count = 77;
    uint64_t position = 0;

    GIVES(DURALOG_OK, eventstore_query_open(&query));
    GIVES(DURALOG_OK, eventstore_query_add_item(query));
    GIVES(DURALOG_OK, eventstore_query_add_type(query, "Joined", 6));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_saved_position(store, "reader", 6, &position));
    GIVES(DURALOG_OK, eventstore_append_save_position(batch, "reader", 6, 3, 0));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &receipt));
    HOLDS(receipt.first_position == 0 && receipt.stream_count == 0);
    GIVES(DURALOG_OK, eventstore_saved_position(store, "reader", 6, &position));
    HOLDS(position == 3);

    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    add(batch, "more", "More", "");
    GIVES(DURALOG_OK, eventstore_append_expect(batch, "more", 4, EVENTSTORE_EXPECT_EXISTS));
    GIVES(DURALOG_OK, eventstore_append_expect(batch, "student-s1", 10, 7));
    GIVES(DURALOG_OK, eventstore_append_add_condition(batch, query, 3));
    GIVES(DURALOG_OK, eventstore_append_put_state(batch, BYTES("k"), 1, BYTES("v"), 1));
    GIVES(DURALOG_OK, eventstore_append_save_position(batch, "reader", 6, 3, 0));
    GIVES(DURALOG_OK, eventstore_query_close(query)); /* the batch has a copy */
    GIVES(DURALOG_E_CONFLICT, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_conflict_count(batch, &count));
    HOLDS(count == 3);
    GIVES(DURALOG_OK, eventstore_append_conflict(batch, 0, &conflict));
    HOLDS(conflict.kind == EVENTSTORE_CONFLICT_STREAM && conflict.index == 1);
    HOLDS(conflict.expected == 7 && conflict.actual == 2);
    HOLDS(is(conflict.name, conflict.name_len, "student-s1"));
    GIVES(DURALOG_OK, eventstore_append_conflict(batch, 1, &conflict));
    HOLDS(conflict.kind == EVENTSTORE_CONFLICT_CONDITION && conflict.index == 0);
    HOLDS(conflict.expected == 3 && conflict.actual == 4);
    HOLDS(is(conflict.name, conflict.name_len, ""));
    GIVES(DURALOG_OK, eventstore_append_conflict(batch, 2, &conflict));
    HOLDS(conflict.kind == EVENTSTORE_CONFLICT_POSITION && conflict.index == 1);
    HOLDS(conflict.expected == 3 && conflict.actual == 3);
    HOLDS(is(conflict.name, conflict.name_len, "reader"));
    GIVES(DURALOG_E_INVALID_ARGUMENT, eventstore_append_conflict(batch, 3, &conflict));
    GIVES(DURALOG_E_CONFLICT, eventstore_append(store, batch, 0, &receipt));

    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_append_conflict_count(batch, &count));
    HOLDS(count == 0);
    GIVES(DURALOG_OK,
          eventstore_append_save_position(batch, "reader", 6, 1, EVENTSTORE_POSITION_RESET));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_saved_position(store, "reader", 6, &position));
    HOLDS(position == 1);
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}

static void append_expecting(int line, eventstore_t *store, const char *stream, int64_t expected,
                             duralog_status_t status)
{
    eventstore_append_t *batch = new_batch();
    eventstore_conflict_t conflict = EVENTSTORE_CONFLICT_INIT;
    size_t count = 77;

    add(batch, stream, "T", "");
    add(batch, stream, "T", "");
    GIVES(DURALOG_OK, eventstore_append_expect(batch, stream, strlen(stream), expected));
    check_status(line, "eventstore_append", eventstore_append(store, batch, 0, NULL), status);
    GIVES(DURALOG_OK, eventstore_append_conflict_count(batch, &count));
    check_that(line, "count of conflicts", count == (status == DURALOG_E_CONFLICT));
    if (count == 1) {
        GIVES(DURALOG_OK, eventstore_append_conflict(batch, 0, &conflict));
        check_that(line, "what was expected", conflict.expected == expected);
    }
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}
#define APPENDS(stream, expected) append_expecting(__LINE__, store, (stream), (expected), DURALOG_OK)
#define CONFLICTS(stream, expected) \
    append_expecting(__LINE__, store, (stream), (expected), DURALOG_E_CONFLICT)

static void a_version_is_expected_in_every_way(const char *directory)
{
    eventstore_t *store = open_store(directory, "expected");
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;

    CONFLICTS("a", EVENTSTORE_EXPECT_EXISTS);
    CONFLICTS("a", 1);
    APPENDS("a", EVENTSTORE_EXPECT_NONE);
    CONFLICTS("a", EVENTSTORE_EXPECT_NONE);
    CONFLICTS("a", 1);
    CONFLICTS("a", 3);
    APPENDS("a", 2);
    CONFLICTS("a", 2);
    APPENDS("a", EVENTSTORE_EXPECT_EXISTS);
    APPENDS("a", EVENTSTORE_EXPECT_ANY);
    APPENDS("b", EVENTSTORE_EXPECT_ANY);
    APPENDS("b", 2);
    GIVES(DURALOG_OK, eventstore_stream_info(store, "a", 1, &info));
    HOLDS(info.stream_version == 8 && info.last_position == 8);
    GIVES(DURALOG_OK, eventstore_stream_info(store, "b", 1, &info));
    HOLDS(info.stream_version == 4 && info.first_position == 9 && info.last_position == 12);
    GIVES(DURALOG_OK, eventstore_close(store));
}

/* A name that begins with "-" is of it. */
static void a_category_can_be_without_a_name(const char *directory)
{
    eventstore_t *store = open_store(directory, "categories");
    eventstore_append_t *batch = new_batch();
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_names_page_t page = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_names_t *names = NULL;

    add(batch, "-a", "T", "");
    add(batch, "b", "T", "");
    add(batch, "-", "T", "");
    add(batch, "c-", "T", "");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    read.selection = EVENTSTORE_READ_CATEGORY;
    READS("13"); /* NULL is allowed with 0 */
    read.name = "";
    READS("13");
    read.direction = EVENTSTORE_READ_BACKWARD;
    READS("31");
    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_CATEGORY, NULL, 0, &names));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, 9, &page));
    HOLDS(page.count == 3 && page.name_begin[0] == page.name_end[0] && page.event_count[0] == 2);
    HOLDS(page.first_position[0] == 1 && page.last_position[0] == 3);
    HOLDS(is(page.bytes, page.bytes_len, "bc"));
    GIVES(DURALOG_OK, eventstore_names_close(names));
    GIVES(DURALOG_OK, eventstore_close(store));
}

/* The receipt of the first time, with the versions of that time, though its streams went on. */
static void a_duplicate_has_the_first_receipt(const char *directory)
{
    static const char *const expected[] = {"one", "two"};
    eventstore_t *store = open_store(directory, "duplicates");
    eventstore_append_t *batch = new_batch();
    eventstore_append_t *other = new_batch();
    eventstore_receipt_t first = EVENTSTORE_RECEIPT_INIT;
    eventstore_receipt_t again = EVENTSTORE_RECEIPT_INIT;
    duralog_error_t error = DURALOG_ERROR_INIT;
    const char *name = NULL;
    size_t len = 0;
    uint64_t version = 0;
    size_t i;

    add(other, "one", "T", "");
    GIVES(DURALOG_OK, eventstore_append(store, other, 0, NULL));
    add(batch, "one", "T", "1");
    add(batch, "two", "T", "2");
    add(batch, "one", "T", "3");
    GIVES(DURALOG_OK, eventstore_append_set_idempotency_key(batch, BYTES("order 7"), 7));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &first));
    HOLDS(first.duplicate == 0 && first.first_position == 2 && first.last_position == 4);
    HOLDS(first.time_ns > UINT64_C(1500000000000000000));
    GIVES(DURALOG_OK, eventstore_append(store, other, 0, NULL));
    memset((char *)&again + sizeof again.struct_size, 0xA5, sizeof again - sizeof again.struct_size);
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &again));
    HOLDS(again.duplicate == 1 && again.batch_id == 0);
    HOLDS(again.first_position == 2 && again.last_position == 4);
    HOLDS(again.time_ns == first.time_ns && again.stream_count == first.stream_count);
    HOLDS(again.stream_count == 2);
    for (i = 0; i < 2; i++) {
        GIVES(DURALOG_OK, eventstore_append_stream_version(batch, i, &name, &len, &version));
        HOLDS(is(name, len, expected[i]) && version == (i == 0 ? 3 : 1));
    }

    /* Another batch with the key: the message names the key, and where the first begins. */
    GIVES(DURALOG_OK, eventstore_append_set_idempotency_key(other, BYTES("order 7"), 7));
    GIVES(DURALOG_E_DUPLICATE, eventstore_append(store, other, 0, &again));
    duralog_last_error(&error);
    HOLDS(strstr(error.message, "the idempotency key \"order 7\": ") != NULL);
    HOLDS(strstr(error.message, "3 events from position 2 on") != NULL);

    /* Without events it has a time, too. */
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_append_put_state(batch, BYTES("k"), 1, BYTES("v"), 1));
    GIVES(DURALOG_OK, eventstore_append_set_idempotency_key(batch, BYTES("state"), 5));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &first));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &again));
    HOLDS(again.duplicate == 1 && again.last_position == 0 && again.stream_count == 0);
    HOLDS(again.time_ns == first.time_ns && first.time_ns > UINT64_C(1500000000000000000));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    GIVES(DURALOG_OK, eventstore_append_close(other));
    GIVES(DURALOG_OK, eventstore_close(store));
}

static void what_comes_twice_is_written_once(eventstore_t *store)
{
    eventstore_append_t *batch = new_batch();
    eventstore_receipt_t first = EVENTSTORE_RECEIPT_INIT;
    eventstore_receipt_t again = EVENTSTORE_RECEIPT_INIT;
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    const uint8_t *ids = NULL;
    size_t count = 77;

    add(batch, "twice", "T", "x");
    GIVES(DURALOG_OK, eventstore_append_set_idempotency_key(batch, BYTES("key"), 3));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &first));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &again));
    HOLDS(first.duplicate == 0 && again.duplicate == 1 && again.batch_id == 0);
    HOLDS(again.first_position == first.first_position && again.time_ns == first.time_ns);
    HOLDS(again.stream_count == 1);
    add(batch, "twice", "T", "y");
    GIVES(DURALOG_E_DUPLICATE, eventstore_append(store, batch, 0, &again));
    GIVES(DURALOG_OK, eventstore_append_known_ids(batch, &ids, &count));
    HOLDS(count == 0 && ids != NULL);
    GIVES(DURALOG_OK, eventstore_append_set_idempotency_key(batch, NULL, 0));

    event.stream = "twice";
    event.stream_len = 5;
    event.event_type = "T";
    event.event_type_len = 1;
    event.id = ID_A;
    GIVES(DURALOG_OK, eventstore_append_add_event(batch, &event));
    GIVES(DURALOG_E_DUPLICATE, eventstore_append(store, batch, 0, &again));
    GIVES(DURALOG_OK, eventstore_append_known_ids(batch, &ids, &count));
    HOLDS(count == 1 && memcmp(ids, ID_A, 16) == 0);
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}

static void facts_are_those_that_were_appended(eventstore_t *store)
{
    eventstore_append_t *batch = new_batch();
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    eventstore_names_page_t page = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_names_t *names = NULL;
    uint8_t buffer[5] = {9, 9, 9, 9, 9};
    size_t len = 7;

    GIVES(DURALOG_OK, eventstore_stream_info(store, "student-s1", 10, &info));
    HOLDS(info.stream_version == 2 && info.first_position == 2 && info.last_position == 4);
    GIVES(DURALOG_E_NOT_FOUND, eventstore_stream_info(store, "student", 7, &info));

    GIVES(DURALOG_E_NOT_FOUND, eventstore_state(store, BYTES("k"), 1, buffer, 5, &len));
    GIVES(DURALOG_OK, eventstore_append_put_state(batch, BYTES("k"), 1, BYTES("abcd"), 4));
    GIVES(DURALOG_OK, eventstore_append_put_state(batch, BYTES("none"), 4, NULL, 0));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_E_BUFFER_TOO_SMALL, eventstore_state(store, BYTES("k"), 1, buffer, 3, &len));
    HOLDS(len == 4 && buffer[0] == 9);
    GIVES(DURALOG_OK, eventstore_state(store, BYTES("k"), 1, buffer, 4, &len));
    HOLDS(len == 4 && memcmp(buffer, "abcd\x09", 5) == 0);
    GIVES(DURALOG_OK, eventstore_state(store, BYTES("none"), 4, NULL, 0, &len));
    HOLDS(len == 0);
    GIVES(DURALOG_OK, eventstore_append_clear(batch));
    GIVES(DURALOG_OK, eventstore_append_delete_state(batch, BYTES("k"), 1));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_E_NOT_FOUND, eventstore_state(store, BYTES("k"), 1, buffer, 5, &len));
    GIVES(DURALOG_OK, eventstore_append_close(batch));

    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_STREAM, NULL, 0, &names));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, 3, &page));
    HOLDS(page.count == 3 && page.event_count[2] == 2 && page.last_position[2] == 4);
    HOLDS(is(page.bytes + page.name_begin[1], page.name_end[1] - page.name_begin[1], "more"));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, 3, &page));
    HOLDS(page.count == 1 && page.first_position[0] == 6);
    HOLDS(is(page.bytes + page.name_begin[0], page.name_end[0] - page.name_begin[0], "twice"));
    GIVES(DURALOG_END, eventstore_names_next_page(names, 3, &page));
    GIVES(DURALOG_OK, eventstore_names_close(names));
    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_TAG, "stu", 3, &names));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, SIZE_MAX, &page));
    HOLDS(page.count == 1 && is(page.bytes, page.bytes_len, "student:s1"));
    GIVES(DURALOG_OK, eventstore_names_close(names));
    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_CATEGORY, NULL, 0, &names));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, 100, &page));
    HOLDS(page.count == 4 && page.event_count[0] == 2);
    GIVES(DURALOG_OK, eventstore_names_close(names));
}

static void *use_and_close_cursor(void *user_data)
{
    eventstore_cursor_t *cursor = (eventstore_cursor_t *)user_data;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    GIVES(DURALOG_OK, eventstore_cursor_next(cursor, &event));
    HOLDS(is(event.data, event.data_len, "2"));
    GIVES(DURALOG_OK, eventstore_cursor_close(cursor));
    return NULL;
}

static void handles_are_closed_in_any_order_by_any_thread(const char *directory)
{
    eventstore_t *store = open_store(directory, "order");
    eventstore_append_t *batch = new_batch();
    eventstore_cursor_t *first = NULL;
    eventstore_cursor_t *second = NULL;
    eventstore_names_t *names = NULL;
    eventstore_names_page_t names_page = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    eventstore_event_t other = EVENTSTORE_EVENT_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    const char *name = NULL;
    size_t len = 0;
    uint64_t version = 0;
    pthread_t thread;

    add(batch, "s", "T", "1");
    add(batch, "s", "T", "2");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &receipt));
    GIVES(DURALOG_OK, eventstore_append_stream_version(batch, 0, &name, &len, &version));
    GIVES(DURALOG_OK, eventstore_read(store, NULL, &first));
    GIVES(DURALOG_OK, eventstore_read(store, NULL, &second));
    GIVES(DURALOG_OK, eventstore_names_open(store, EVENTSTORE_NAMES_TYPE, NULL, 0, &names));
    GIVES(DURALOG_OK, eventstore_cursor_next(first, &event));
    GIVES(DURALOG_OK, eventstore_names_next_page(names, 1, &names_page));
    GIVES(DURALOG_OK, eventstore_close(store));

    /* Closing the store ends no borrow of another handle, and no reading. */
    HOLDS(is(event.data, event.data_len, "1") && is(name, len, "s") && version == 2);
    HOLDS(is(names_page.bytes, names_page.bytes_len, "T"));
    GIVES(DURALOG_OK, eventstore_cursor_next(second, &other));
    HOLDS(is(other.data, other.data_len, "1"));
    GIVES(DURALOG_E_CLOSED, eventstore_cursor_event_at(second, 1, &other));
    GIVES(DURALOG_E_CLOSED, eventstore_names_next_page(names, 1, &names_page));
    HOLDS(pthread_create(&thread, NULL, use_and_close_cursor, first) == 0);
    HOLDS(pthread_join(thread, NULL) == 0);

    /* Neither do handles left from before keep the store from being opened again; the batch is of
     * no store. */
    store = open_store(directory, "order");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, &receipt));
    HOLDS(receipt.first_position == 3 && receipt.last_position == 4);
    GIVES(DURALOG_OK, eventstore_cursor_close(second));
    GIVES(DURALOG_OK, eventstore_names_close(names));
    GIVES(DURALOG_OK, eventstore_close(store));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}

static void *append_many(void *user_data)
{
    eventstore_t *store = (eventstore_t *)user_data;
    eventstore_append_t *batch = NULL;
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    duralog_status_t status = eventstore_append_open(&batch);
    int i;

    event.stream = "shared";
    event.stream_len = 6;
    event.event_type = "T";
    event.event_type_len = 1;
    for (i = 0; status == DURALOG_OK && i < APPENDS_PER_THREAD; i++) {
        status = eventstore_append_clear(batch);
        if (status == DURALOG_OK)
            status = eventstore_append_add_event(batch, &event);
        if (status == DURALOG_OK)
            status = eventstore_append(store, batch, 0, NULL);
    }
    eventstore_append_close(batch);
    return status == DURALOG_OK ? NULL : user_data;
}

static void threads_share_a_handle(const char *directory)
{
    eventstore_t *store = open_store(directory, "shared");
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    wal_stat_t stat = WAL_STAT_INIT;
    pthread_t threads[THREAD_COUNT];
    int i;

    for (i = 0; i < THREAD_COUNT; i++)
        HOLDS(pthread_create(&threads[i], NULL, append_many, store) == 0);
    for (i = 0; i < THREAD_COUNT; i++) {
        void *failed = NULL;
        HOLDS(pthread_join(threads[i], &failed) == 0 && failed == NULL);
    }
    GIVES(DURALOG_OK, eventstore_stream_info(store, "shared", 6, &info));
    HOLDS(info.stream_version == THREAD_COUNT * APPENDS_PER_THREAD);
    HOLDS(info.last_position == THREAD_COUNT * APPENDS_PER_THREAD);
    GIVES(DURALOG_OK, eventstore_wal_stat(store, &stat));
    HOLDS(stat.batch_count >= 1 && stat.group_count <= stat.batch_count);
    GIVES(DURALOG_OK, eventstore_close(store));
}

static void *append_later(void *user_data)
{
    eventstore_append_t *batch = new_batch();
    add(batch, "followed", "T", "later");
    GIVES(DURALOG_OK, eventstore_append((eventstore_t *)user_data, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    return NULL;
}

static void *cancel(void *user_data)
{
    GIVES(DURALOG_OK, eventstore_subscription_cancel((eventstore_subscription_t *)user_data));
    return NULL;
}

static void a_subscription_waits_for_what_comes(const char *directory)
{
    eventstore_t *store = open_store(directory, "followed");
    eventstore_append_t *batch = new_batch();
    eventstore_subscription_t *subscription = NULL;
    eventstore_subscription_t *other = NULL;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    uint64_t position = 77;
    int32_t fd = -1;
    struct pollfd poll_fd;
    pthread_t thread;

    read.selection = EVENTSTORE_READ_STREAM;
    read.name = "followed";
    read.name_len = 8;
    add(batch, "other", "T", "");
    add(batch, "followed", "T", "now");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    GIVES(DURALOG_OK, eventstore_subscribe(store, &read, EVENTSTORE_FROM_SAVED, 0, "f", 1,
                                           &subscription));
    GIVES(DURALOG_E_INVALID_ARGUMENT, eventstore_subscription_ack(subscription, 2));
    GIVES(DURALOG_OK, eventstore_subscription_next_page(subscription, 10, 0, &page));
    HOLDS(page.count == 1 && page.position[0] == 2);
    GIVES(DURALOG_E_INVALID_ARGUMENT, eventstore_subscription_ack(subscription, 3));
    GIVES(DURALOG_E_INVALID_ARGUMENT, eventstore_subscription_ack(subscription, 1000000000000));
    GIVES(DURALOG_END, eventstore_subscription_next_page(subscription, 10, 1, &page));
    GIVES(DURALOG_OK, eventstore_subscription_position(subscription, &position));
    HOLDS(position == 2);
    GIVES(DURALOG_OK, eventstore_subscription_ack(subscription, position));
    GIVES(DURALOG_OK, eventstore_subscription_ack(subscription, 1)); /* not beyond: nothing */
    GIVES(DURALOG_OK, eventstore_saved_position(store, "f", 1, &position));
    HOLDS(position == 2);

    HOLDS(pthread_create(&thread, NULL, append_later, store) == 0);
    GIVES(DURALOG_OK, eventstore_subscription_next_page(subscription, 10, 60000, &page));
    HOLDS(page.count == 1 && page.position[0] == 3);
    HOLDS(same(&page, page.data_begin, page.data_end, 0, "later", 5));
    HOLDS(pthread_join(thread, NULL) == 0);
    HOLDS(page.position[0] == 3); /* still lent */

    GIVES(DURALOG_OK, eventstore_subscription_fd(subscription, &fd));
    GIVES(DURALOG_END, eventstore_subscription_next_page(subscription, 10, 0, &page));
    poll_fd.fd = fd;
    poll_fd.events = POLLIN;
    HOLDS(poll(&poll_fd, 1, 0) == 0);
    HOLDS(pthread_create(&thread, NULL, append_later, store) == 0);
    HOLDS(poll(&poll_fd, 1, 60000) == 1);
    HOLDS(pthread_join(thread, NULL) == 0);
    GIVES(DURALOG_OK, eventstore_subscription_next_page(subscription, 10, 0, &page));
    HOLDS(page.count == 1 && page.position[0] == 4);

    /* Cancelled while it waits, without end. */
    HOLDS(pthread_create(&thread, NULL, cancel, subscription) == 0);
    GIVES(DURALOG_STOPPED, eventstore_subscription_next_page(subscription, 10, -1, &page));
    HOLDS(pthread_join(thread, NULL) == 0);
    GIVES(DURALOG_STOPPED, eventstore_subscription_next_page(subscription, 10, 0, &page));
    GIVES(DURALOG_OK, eventstore_subscription_close(subscription));

    GIVES(DURALOG_OK,
          eventstore_subscribe(store, NULL, EVENTSTORE_FROM_SAVED, 0, "f", 1, &subscription));
    GIVES(DURALOG_OK,
          eventstore_subscribe(store, NULL, EVENTSTORE_FROM_END, 0, NULL, 0, &other));
    GIVES(DURALOG_OK, eventstore_close(store));
    GIVES(DURALOG_OK, eventstore_subscription_next_page(subscription, 10, -1, &page));
    HOLDS(page.count == 2 && page.position[1] == 4);
    GIVES(DURALOG_E_CLOSED, eventstore_subscription_next_page(subscription, 10, -1, &page));
    GIVES(DURALOG_E_CLOSED, eventstore_subscription_next_page(other, 10, -1, &page));
    GIVES(DURALOG_OK, eventstore_subscription_close(subscription));
    GIVES(DURALOG_OK, eventstore_subscription_close(other));
}

static void a_snapshot_is_loaded_as_it_was_saved(const char *directory)
{
    eventstore_t *store = open_store(directory, "followed");
    eventstore_snapshot_t *snapshot = NULL;
    eventstore_snapshot_info_t info = EVENTSTORE_SNAPSHOT_INFO_INIT;
    static const struct {
        uint64_t version_max, version;
        const char *data;
    } asked[] = {{3, 3, "state"}, {4, 3, "state"}, {5, 5, "newer"}, {UINT64_MAX, 5, "newer"}};
    size_t i;

    GIVES(DURALOG_OK, eventstore_snapshot_save(store, BYTES("k"), 1, 3, 4, BYTES("v1"), 2,
                                               BYTES("state"), 5));
    GIVES(DURALOG_OK, eventstore_snapshot_save(store, BYTES("k"), 1, 5, 4, BYTES("v1"), 2,
                                               BYTES("newer"), 5));
    GIVES(DURALOG_E_NOT_FOUND,
          eventstore_snapshot_load(store, BYTES("k"), 1, 2, BYTES("v1"), 2, &snapshot));
    GIVES(DURALOG_E_NOT_FOUND,
          eventstore_snapshot_load(store, BYTES("k"), 1, 3, BYTES("v2"), 2, &snapshot));
    /* The newest at or before a version. */
    for (i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        GIVES(DURALOG_OK, eventstore_snapshot_load(store, BYTES("k"), 1, asked[i].version_max,
                                                   BYTES("v1"), 2, &snapshot));
        GIVES(DURALOG_OK, eventstore_snapshot_info(snapshot, &info));
        HOLDS(info.version == asked[i].version && is(info.data, info.data_len, asked[i].data));
        GIVES(DURALOG_OK, eventstore_snapshot_close(snapshot));
    }
    GIVES(DURALOG_OK,
          eventstore_snapshot_load(store, BYTES("k"), 1, 4, BYTES("v1"), 2, &snapshot));
    GIVES(DURALOG_OK, eventstore_snapshot_delete(store, BYTES("k"), 1));
    GIVES(DURALOG_OK, eventstore_close(store));
    GIVES(DURALOG_OK, eventstore_snapshot_info(snapshot, &info));
    HOLDS(info.version == 3 && info.position == 4 && is(info.data, info.data_len, "state"));
    GIVES(DURALOG_OK, eventstore_snapshot_close(snapshot));
}

static void readers_work_beside_the_writer(const char *directory)
{
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    wal_options_t wal = WAL_OPTIONS_INIT;
    eventstore_t *store = NULL;
    eventstore_t *reader = NULL;
    eventstore_append_t *batch = new_batch();
    eventstore_subscription_t *subscription = NULL;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    uint64_t position = 0;
    int32_t fd = 77;
    char path[4200];

    store = open_store(directory, "store");
    GIVES(DURALOG_OK, eventstore_recovery_report(store, &report));
    HOLDS(report.verdict == WAL_VERDICT_CLEAN_END && report.next_seq > 6);
    snprintf(path, sizeof path, "%s/store", directory);
    options.wal = &wal;
    GIVES(DURALOG_E_BUSY, eventstore_open(path, NULL, &reader));
    wal.open_flags = WAL_OPEN_READ_ONLY;
    GIVES(DURALOG_OK, eventstore_open(path, &options, &reader));
    add(batch, "more", "More", "");
    GIVES(DURALOG_E_READ_ONLY, eventstore_append(reader, batch, 0, NULL));
    GIVES(DURALOG_OK,
          eventstore_subscribe(reader, NULL, EVENTSTORE_FROM_SAVED, 0, "f", 1, &subscription));
    GIVES(DURALOG_E_UNSUPPORTED, eventstore_subscription_fd(subscription, &fd));
    HOLDS(fd == 77);
    GIVES(DURALOG_OK, eventstore_subscription_next_page(subscription, 1, 0, &page));
    GIVES(DURALOG_E_READ_ONLY, eventstore_subscription_ack(subscription, page.position[0]));
    GIVES(DURALOG_OK, eventstore_subscription_close(subscription));
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_sync(store));
    GIVES(DURALOG_OK, eventstore_last_position(reader, &position));
    HOLDS(position == 7);
    GIVES(DURALOG_OK, eventstore_close(store));
    GIVES(DURALOG_OK, eventstore_close(reader));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
}

typedef struct {
    uint64_t done, total, calls;
    int answer;
} told_t;

static int tell(void *user_data, uint64_t done, uint64_t total)
{
    told_t *told = user_data;
    HOLDS(done <= total && (told->calls == 0 || (done >= told->done && total == told->total)));
    told->done = done;
    told->total = total;
    told->calls++;
    return told->answer;
}

static void opening_tells_how_far_it_is(const char *directory)
{
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    eventstore_stat_t stat = EVENTSTORE_STAT_INIT;
    eventstore_t *const kept = (eventstore_t *)&stat;
    eventstore_t *store = kept;
    told_t told = {0, 0, 0, 1};
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    char path[4200];

    snprintf(path, sizeof path, "%s/store", directory);
    options.flags = EVENTSTORE_MAPPED;
    options.progress = tell;
    options.progress_user_data = &told;
    GIVES(DURALOG_STOPPED, eventstore_open(path, &options, &store));
    HOLDS(store == kept && told.calls == 1 && told.done == 0 && told.total > 0);
    told.answer = 0;
    GIVES(DURALOG_OK, eventstore_open(path, &options, &store));
    HOLDS(told.calls >= 3 && told.done == told.total);
    GIVES(DURALOG_OK, eventstore_stat(store, &stat));
    HOLDS(stat.last_position == 7 && stat.memory_events == 7);
    HOLDS(stat.run_count == 0 && stat.work_done == 0 && stat.work_total == 0);
    GIVES(DURALOG_OK, eventstore_stream_info(store, "more", 4, &info));
    HOLDS(info.last_position == 7);
    GIVES(DURALOG_OK, eventstore_close(store));
}

/* The path of a file of the index of a store, whose name is given too. */
static void find_run(const char *store, char *path, size_t path_len, char *name, size_t name_len)
{
    const struct dirent *entry;
    DIR *files;
    snprintf(path, path_len, "%s/index", store);
    files = opendir(path);
    HOLDS(files != NULL);
    name[0] = 0;
    while (files != NULL && (entry = readdir(files)) != NULL)
        if (strstr(entry->d_name, ".run") != NULL)
            snprintf(name, name_len, "%s", entry->d_name);
    if (files != NULL)
        closedir(files);
    HOLDS(name[0] != 0);
    snprintf(path, path_len, "%s/index/%s", store, name);
}

static void the_index_is_compared_with_the_log(const char *directory)
{
    enum { COUNT = 3000, PLACE = 4096 + 100 };
    eventstore_index_report_t report = EVENTSTORE_INDEX_REPORT_INIT;
    eventstore_t *store = open_store(directory, "compared");
    eventstore_append_t *batch = new_batch();
    told_t told = {0, 0, 0, 0};
    char path[4200];
    char run[4600];
    char name[256];
    FILE *file;
    int i;

    for (i = 0; i < COUNT; i++)
        add(batch, i % 2 == 0 ? "even" : "odd", "Counted", "data");
    GIVES(DURALOG_OK, eventstore_append(store, batch, 0, NULL));
    GIVES(DURALOG_OK, eventstore_append_close(batch));
    /* In memory: there is nothing to look through. */
    GIVES(DURALOG_OK, eventstore_verify_index(store, NULL, NULL, &report));
    HOLDS(report.run_count == 0 && report.event_count == 0 && report.damaged_run_count == 0);
    GIVES(DURALOG_OK, eventstore_close(store));

    store = open_store(directory, "compared");
    GIVES(DURALOG_OK, eventstore_verify_index(store, tell, &told, &report));
    HOLDS(report.run_count == 1 && report.event_count == COUNT && report.key_count == 5);
    HOLDS(report.damaged_run_count == 0 && report.damaged_file[0] == 0 && report.reason[0] == 0);
    HOLDS(told.calls > 2 && told.done == told.total && told.total > 100000);

    snprintf(path, sizeof path, "%s/compared", directory);
    find_run(path, run, sizeof run, name, sizeof name);
    file = fopen(run, "r+b");
    HOLDS(file != NULL);
    if (file != NULL) {
        const int byte = fseek(file, PLACE, SEEK_SET) == 0 ? getc(file) : EOF;
        HOLDS(byte != EOF && fseek(file, PLACE, SEEK_SET) == 0 && putc(byte ^ 1, file) != EOF);
        HOLDS(fclose(file) == 0);
    }
    told.calls = 0;
    told.answer = 1;
    GIVES(DURALOG_STOPPED, eventstore_verify_index(store, tell, &told, &report));
    HOLDS(report.damaged_run_count == 0 && report.event_count == COUNT);
    GIVES(DURALOG_OK, eventstore_verify_index(store, NULL, NULL, &report));
    HOLDS(report.run_count == 1 && report.damaged_run_count == 1 && report.damaged_block == 1);
    HOLDS(strcmp(report.damaged_file, name) == 0);
    HOLDS(strcmp(report.reason, "the checksum does not hold") == 0);
    GIVES(DURALOG_OK, eventstore_close(store));
}

int main(int argc, char **argv)
{
    eventstore_t *store;
    if (argc != 2)
        return 2;
    store = open_store(argv[1], "store");
    events_added_in_two_ways_are_the_same(store);
    pages_show_what_single_events_show(store);
    a_page_says_whether_anything_stood_behind_it(store);
    selections_show_their_events(store);
    conflicts_are_told_together_and_the_batch_stays(store);
    what_comes_twice_is_written_once(store);
    facts_are_those_that_were_appended(store);
    GIVES(DURALOG_OK, eventstore_close(store));
    readers_work_beside_the_writer(argv[1]);
    opening_tells_how_far_it_is(argv[1]);
    the_index_is_compared_with_the_log(argv[1]);
    handles_are_closed_in_any_order_by_any_thread(argv[1]);
    threads_share_a_handle(argv[1]);
    a_subscription_waits_for_what_comes(argv[1]);
    a_snapshot_is_loaded_as_it_was_saved(argv[1]);
    a_version_is_expected_in_every_way(argv[1]);
    a_category_can_be_without_a_name(argv[1]);
    a_duplicate_has_the_first_receipt(argv[1]);
    return check_result();
}
