/*
 * Opens an event store that a power cut left, as a user would, and compares it with what the writers
 * of powercut_events.h were promised. $POWERCUT_ACKS names a file of what had been printed before the
 * cut.
 *
 *     powercut_check_events STORE [BASE]
 *
 * Every acknowledged batch is there, whole and right; at most the one that was being appended is there
 * besides; positions and stream versions have no gaps; what was saved with a batch is there if and only
 * if the batch is; the subscriber's totals are those of the events up to its saved position; and what
 * the index says of streams and tags is what the events say. The batches up to BASE were in the store
 * before what was recorded began.
 */

#include "powercut_acks.h"
#include "powercut_events.h"
#include <string.h>

static uint32_t acked;
static uint64_t saved;

static void read_acks(void)
{
    FILE *file = open_acks();
    char line[64];
    while (fgets(line, sizeof line, file) != NULL) {
        char what[16];
        unsigned long long number;
        if (sscanf(line, "%15s %llu", what, &number) != 2)
            fail("what is this acknowledgement? %s", line);
        if (strcmp(what, "ack") == 0)
            acked = (uint32_t)number;
        else if (strcmp(what, "saved") == 0)
            saved = number;
        else
            fail("what is this acknowledgement? %s", line);
    }
    fclose(file);
}

/* Where a reading stands, and what it has counted. */
typedef struct walk_t {
    const char *how;
    uint32_t batch; /* of the event seen last */
    uint32_t index; /* its place in the batch */
    uint64_t position;
    uint64_t versions[EVENTS_STREAMS];
    uint64_t tagged[EVENTS_TAGS];
    events_totals_t totals; /* up to the subscriber's saved position */
    uint64_t totals_position;
    int after; /* events that this checker appended */
} walk_t;

static int same(const eventstore_page_t *page, uint32_t begin, uint32_t end, const void *bytes,
                size_t len)
{
    return end - begin == len && memcmp(page->bytes + begin, bytes, len) == 0;
}

static void expect(walk_t *walk, const eventstore_page_t *page, size_t i)
{
    static events_event_t event;
    const int begins = walk->batch == 0 || walk->index + 1 == events_count(walk->batch);
    walk->position++;
    if (page->position[i] != walk->position)
        fail("%s: behind position %llu comes %llu", walk->how,
             (unsigned long long)walk->position - 1, (unsigned long long)page->position[i]);
    if (same(page, page->stream_begin[i], page->stream_end[i], "after", 5)) {
        walk->after++;
        return;
    }
    walk->index = begins ? 0 : walk->index + 1;
    walk->batch += (uint32_t)begins;
    events_event(walk->batch, walk->index, &event);
    if (!same(page, page->stream_begin[i], page->stream_end[i], event.stream, event.stream_len)
        || !same(page, page->event_type_begin[i], page->event_type_end[i], event.event_type,
                 event.event_type_len)
        || !same(page, page->tags_begin[i] + 1, page->tags_end[i], event.tag, event.tag_len)
        || !same(page, page->data_begin[i], page->data_end[i], event.data, event.data_len))
        fail("%s: event %u of batch %u is not as it was appended", walk->how, walk->index,
             walk->batch);
    const int ends = walk->index + 1 == events_count(walk->batch);
    if (((page->flags[i] & EVENTSTORE_EVENT_FIRST) != 0) != begins
        || ((page->flags[i] & EVENTSTORE_EVENT_LAST) != 0) != ends)
        fail("%s: event %u of batch %u begins or ends it wrongly", walk->how, walk->index,
             walk->batch);
    const uint64_t version = ++walk->versions[events_stream(walk->batch, walk->index)];
    if (page->stream_version[i] != version)
        fail("%s: event %u of batch %u has the stream version %llu", walk->how, walk->index,
             walk->batch, (unsigned long long)page->stream_version[i]);
    walk->tagged[walk->batch % EVENTS_TAGS]++;
    if (walk->position <= walk->totals_position) {
        walk->totals.count++;
        walk->totals.bytes += event.data_len;
    }
}

/* How many events a reading gives; positions only grow, and so do the versions of a stream. */
static uint64_t count(const char *how, eventstore_t *store, const eventstore_read_t *read)
{
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_cursor_t *cursor = NULL;
    duralog_status_t status = eventstore_read(store, read, &cursor);
    uint64_t found = 0, last = 0;
    while (status == DURALOG_OK) {
        status = eventstore_cursor_next_page(cursor, 700, &page);
        if (status != DURALOG_OK)
            break;
        for (size_t i = 0; i < page.count; i++) {
            found++;
            if (page.position[i] <= last)
                fail("%s: positions go back", how);
            if (read->selection == EVENTSTORE_READ_STREAM && page.stream_version[i] != found)
                fail("%s: a stream version is missing", how);
            last = page.position[i];
        }
    }
    if (status != DURALOG_END)
        fail("%s: reading ends after %llu events", how, (unsigned long long)found);
    eventstore_cursor_close(cursor);
    return found;
}

/* What the index says is what the events say. */
static void check_index(const walk_t *walk, eventstore_t *store)
{
    for (unsigned stream = 0; stream < EVENTS_STREAMS; stream++) {
        char name[16];
        eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
        eventstore_read_t read = EVENTSTORE_READ_INIT;
        const uint64_t version = walk->versions[stream];
        read.selection = EVENTSTORE_READ_STREAM;
        read.name = name;
        read.name_len = (size_t)sprintf(name, "s-%u", stream);
        const duralog_status_t status = eventstore_stream_info(store, name, read.name_len, &info);
        if ((status != DURALOG_OK && status != DURALOG_E_NOT_FOUND)
            || info.stream_version != version || count(walk->how, store, &read) != version)
            fail("%s: %s has the version %llu, expected %llu", walk->how, name,
                 (unsigned long long)info.stream_version, (unsigned long long)version);
    }
    for (unsigned number = 0; number < EVENTS_TAGS; number++) {
        char tag[16];
        eventstore_read_t read = EVENTSTORE_READ_INIT;
        const size_t len = (size_t)sprintf(tag, "t-%u", number);
        read.selection = EVENTSTORE_READ_QUERY;
        if (eventstore_query_open(&read.query) != DURALOG_OK
            || eventstore_query_add_item(read.query) != DURALOG_OK
            || eventstore_query_add_tag(read.query, tag, len) != DURALOG_OK
            || count(walk->how, store, &read) != walk->tagged[number])
            fail("%s: not all events with the tag %s", walk->how, tag);
        eventstore_query_close(read.query);
    }
}

static uint64_t saved_position(const char *how, eventstore_t *store, const char *name)
{
    uint64_t position = 0;
    const duralog_status_t status = eventstore_saved_position(store, name, strlen(name), &position);
    if (status != DURALOG_OK && status != DURALOG_E_NOT_FOUND)
        fail("%s: the saved position %s", how, name);
    return position;
}

/* The state under this key has these bytes, or is not there if there are none. */
static void check_state(const char *how, eventstore_t *store, const char *key, const void *bytes,
                        size_t len)
{
    uint8_t found[64];
    size_t found_len = 0;
    const duralog_status_t status = eventstore_state(store, (const uint8_t *)key, strlen(key),
                                                     found, sizeof found, &found_len);
    if (status != (len == 0 ? DURALOG_E_NOT_FOUND : DURALOG_OK)
        || (len > 0 && (found_len != len || memcmp(found, bytes, len) != 0)))
        fail("%s: the state %s is not what was saved with its position", how, key);
}

static void check_saved(const walk_t *walk, eventstore_t *store)
{
    char text[16];
    uint8_t totals[EVENTS_TOTALS_LEN];
    const uint32_t third = walk->batch - walk->batch % 3;
    if (saved_position(walk->how, store, "batches") != third)
        fail("%s: batch %u is there, and the position saved with it is not", walk->how, third);
    check_state(walk->how, store, "batch", text,
                third == 0 ? 0 : (size_t)sprintf(text, "%u", (unsigned)third));
    if (walk->totals_position < saved)
        fail("%s: position %llu was saved, %llu is there", walk->how, (unsigned long long)saved,
             (unsigned long long)walk->totals_position);
    events_totals_encode(walk->totals, totals);
    check_state(walk->how, store, "totals", totals, walk->totals_position == 0 ? 0 : sizeof totals);
}

/* A snapshot may be lost, but not wrong. */
static void check_snapshot(const walk_t *walk, eventstore_t *store)
{
    char text[16];
    eventstore_snapshot_t *snapshot = NULL;
    eventstore_snapshot_info_t info = EVENTSTORE_SNAPSHOT_INFO_INIT;
    const duralog_status_t status = eventstore_snapshot_load(store, (const uint8_t *)"batch", 5,
                                                             UINT64_MAX, NULL, 0, &snapshot);
    if (status == DURALOG_E_NOT_FOUND)
        return;
    if (status != DURALOG_OK || eventstore_snapshot_info(snapshot, &info) != DURALOG_OK)
        fail("%s: loading a snapshot", walk->how);
    const size_t len = (size_t)sprintf(text, "%llu", (unsigned long long)info.version);
    if (info.version > walk->batch || info.version % 10 != 0
        || info.position != events_position((uint32_t)info.version) || info.data_len != len
        || memcmp(info.data, text, len) != 0)
        fail("%s: a wrong snapshot of version %llu", walk->how, (unsigned long long)info.version);
    eventstore_snapshot_close(snapshot);
}

/* Reads everything and returns the last batch. */
static uint32_t check(const char *how, eventstore_t *store, int after)
{
    walk_t walk = {0};
    uint64_t last = 0;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_cursor_t *cursor = NULL;
    walk.how = how;
    walk.totals_position = saved_position(how, store, "totals");
    duralog_status_t status = eventstore_read(store, NULL, &cursor);
    while (status == DURALOG_OK) {
        status = eventstore_cursor_next_page(cursor, 500, &page);
        for (size_t i = 0; status == DURALOG_OK && i < page.count; i++)
            expect(&walk, &page, i);
    }
    if (status != DURALOG_END)
        fail("%s: reading ends in batch %u", how, walk.batch);
    eventstore_cursor_close(cursor);
    if (walk.batch != 0 && walk.index + 1 != events_count(walk.batch))
        fail("%s: batch %u ends at event %u", how, walk.batch, walk.index);
    if (walk.batch < acked)
        fail("%s: %u batches were acknowledged, the last one there is %u", how, acked, walk.batch);
    if (walk.batch > acked + 1)
        fail("%s: batch %u was never appended", how, walk.batch);
    if (walk.after != after)
        fail("%s: %d events that were appended after the cut, expected %d", how, walk.after, after);
    if (eventstore_last_position(store, &last) != DURALOG_OK || last != walk.position)
        fail("%s: the last position is %llu", how, (unsigned long long)last);
    if (walk.totals_position > last)
        fail("%s: the subscriber is ahead of the events", how);
    check_index(&walk, store);
    check_saved(&walk, store);
    check_snapshot(&walk, store);
    return walk.batch;
}

static uint32_t open_and_check(const char *how, const char *path, uint32_t flags, int after)
{
    eventstore_t *store = NULL;
    wal_options_t wal = WAL_OPTIONS_INIT;
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    wal.segment_bytes_max = EVENTS_SEGMENT_BYTES;
    wal.open_flags = flags;
    options.wal = &wal;
    const duralog_status_t status = eventstore_open(path, &options, &store);
    if (status == DURALOG_E_NOT_FOUND && flags == WAL_OPEN_READ_ONLY && acked == 0)
        return 0;
    if (status != DURALOG_OK)
        fail("%s: eventstore_open", how);
    const uint32_t found = check(how, store, after);
    if (flags == 0 && after == 0) {
        eventstore_append_t *draft = NULL;
        eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
        event.stream = event.event_type = "after";
        event.stream_len = event.event_type_len = 5;
        if (eventstore_append_open(&draft) != DURALOG_OK
            || eventstore_append_add_event(draft, &event) != DURALOG_OK
            || eventstore_append_expect(draft, "after", 5, EVENTSTORE_EXPECT_NONE) != DURALOG_OK
            || eventstore_append(store, draft, 0, NULL) != DURALOG_OK)
            fail("%s: eventstore_append", how);
        eventstore_append_close(draft);
    }
    if (eventstore_close(store) != DURALOG_OK)
        fail("%s: eventstore_close", how);
    return found;
}

/* Read-only first, then for writing, which recovers: both show the same. Then one more event is
   appended, and all is there once more after closing and opening. */
int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (argc > 2) {
        acked = (uint32_t)strtoul(argv[2], NULL, 10);
        saved = events_position(acked - acked % 5);
    }
    read_acks();
    const uint32_t read = open_and_check("read-only", argv[1], WAL_OPEN_READ_ONLY, 0);
    const uint32_t recovered = open_and_check("recovered", argv[1], 0, 0);
    if (read != recovered)
        fail("the reader finds %u batches, the writer %u", read, recovered);
    open_and_check("again", argv[1], 0, 1);
    return 0;
}
