/*
 * Appends the batches of powercut_events.h to an event store, and prints "ack N" when batch N is
 * acknowledged, "saved P" when the subscriber has saved position P. In the mode goon it appends a batch
 * that is in doubt again under its key, which gives the first receipt if it is there.
 *
 *     powercut_events STORE LAST [MODE [BASE]]
 *
 * See powercut_steps.h.
 */

#define _POSIX_C_SOURCE 200809L
#include "powercut_events.h"
#include "powercut_steps.h"

static eventstore_t *store;
static eventstore_append_t *draft;

static duralog_status_t try_open(void)
{
    wal_options_t wal = WAL_OPTIONS_INIT;
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    wal.segment_bytes_max = EVENTS_SEGMENT_BYTES;
    wal.sync_mode = sync_mode;
    options.wal = &wal;
    return eventstore_open(path, &options, &store);
}

static duralog_status_t try_close(void)
{
    eventstore_t *open = store;
    store = NULL;
    return eventstore_close(open);
}

static int was_carried_out(const duralog_error_t *error)
{
    (void)error;
    return 0; /* every step finds out by itself */
}

/* For what needs no disk. */
static void must(duralog_status_t status)
{
    if (status != DURALOG_OK) {
        failed("a call that can't fail");
        abort();
    }
}

/* Preconditions that hold, for nobody else is there. */
static duralog_status_t expect(uint32_t batch, const events_event_t *first)
{
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    eventstore_query_t *query = NULL;
    uint64_t last = 0;
    duralog_status_t status;
    if (batch % 2 == 1) {
        status = eventstore_stream_info(store, first->stream, first->stream_len, &info);
        if (status != DURALOG_OK && status != DURALOG_E_NOT_FOUND)
            return status;
        must(eventstore_append_expect(draft, first->stream, first->stream_len,
                                      (int64_t)info.stream_version));
        return DURALOG_OK;
    }
    status = eventstore_last_position(store, &last);
    if (status != DURALOG_OK)
        return status;
    must(eventstore_query_open(&query));
    must(eventstore_query_add_item(query));
    must(eventstore_query_add_tag(query, first->tag, first->tag_len));
    must(eventstore_append_add_condition(draft, query, last));
    must(eventstore_query_close(query));
    return DURALOG_OK;
}

static duralog_status_t append(uint32_t batch)
{
    static events_event_t content;
    char text[16];
    const size_t len = (size_t)sprintf(text, "%u", (unsigned)batch);
    must(eventstore_append_clear(draft));
    for (uint32_t index = 0; index < events_count(batch); index++) {
        const char *tag = content.tag;
        eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
        events_event(batch, index, &content);
        event.stream = content.stream;
        event.stream_len = content.stream_len;
        event.event_type = content.event_type;
        event.event_type_len = content.event_type_len;
        event.data = content.data;
        event.data_len = content.data_len;
        event.tags = &tag;
        event.tag_lens = &content.tag_len;
        event.tag_count = 1;
        must(eventstore_append_add_event(draft, &event));
    }
    events_event(batch, 0, &content);
    const duralog_status_t status = expect(batch, &content);
    if (status != DURALOG_OK)
        return status;
    if (batch % 3 == 0) {
        must(eventstore_append_save_position(draft, "batches", 7, batch, 0));
        must(eventstore_append_put_state(draft, (const uint8_t *)"batch", 5, (uint8_t *)text, len));
    }
    must(eventstore_append_set_idempotency_key(draft, (const uint8_t *)text, len));
    return eventstore_append(store, draft, 0, NULL);
}

/* Saves the totals with the position up to which they were counted. */
static duralog_status_t save(events_totals_t totals, uint64_t position)
{
    uint8_t state[EVENTS_TOTALS_LEN];
    events_totals_encode(totals, state);
    must(eventstore_append_clear(draft));
    must(eventstore_append_save_position(draft, "totals", 6, position, 0));
    must(eventstore_append_put_state(draft, (const uint8_t *)"totals", 6, state, sizeof state));
    const duralog_status_t status = eventstore_append(store, draft, 0, NULL);
    if (status == DURALOG_OK)
        tell("saved", position);
    return status;
}

static duralog_status_t add_up(uint32_t batch)
{
    uint8_t state[EVENTS_TOTALS_LEN] = {0};
    size_t len = 0;
    events_totals_t totals = {0, 0};
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_subscription_t *subscription = NULL;
    (void)batch;
    duralog_status_t status =
        eventstore_state(store, (const uint8_t *)"totals", 6, state, sizeof state, &len);
    if (status != DURALOG_OK && status != DURALOG_E_NOT_FOUND)
        return status;
    for (int k = 7; k >= 0; k--) {
        totals.count = totals.count << 8 | state[k];
        totals.bytes = totals.bytes << 8 | state[8 + k];
    }
    status = eventstore_subscribe(store, NULL, EVENTSTORE_FROM_SAVED, 0, "totals", 6,
                                  &subscription);
    while (status == DURALOG_OK) {
        status = eventstore_subscription_next_page(subscription, 1000, 0, &page);
        if (status != DURALOG_OK)
            break;
        for (size_t i = 0; i < page.count; i++) {
            totals.count++;
            totals.bytes += page.data_end[i] - page.data_begin[i];
        }
        status = save(totals, page.position[page.count - 1]);
    }
    must(eventstore_subscription_close(subscription));
    return status == DURALOG_END ? DURALOG_OK : status;
}

static duralog_status_t snapshot(uint32_t batch)
{
    char text[16];
    const size_t len = (size_t)sprintf(text, "%u", (unsigned)batch);
    return eventstore_snapshot_save(store, (const uint8_t *)"batch", 5, batch,
                                    events_position(batch), NULL, 0, (uint8_t *)text, len);
}

int main(int argc, char **argv)
{
    uint32_t base, last;
    read_arguments(argc, argv, &base, &last);
    must(eventstore_append_open(&draft));
    open_it();
    for (uint32_t batch = base + 1; batch <= last; batch++) {
        take(append, batch, "append");
        tell("ack", batch);
        if (batch % 5 == 0)
            take(add_up, batch, "add up");
        if (batch % 10 == 0)
            take(snapshot, batch, "snapshot");
        if (batch % 35 == 0) {
            close_it();
            open_it();
        }
    }
    close_it();
    must(eventstore_append_close(draft));
    return 0;
}
