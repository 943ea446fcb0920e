/*
 * Totals over events that count each of them exactly once, wherever the program dies.
 *
 *     ./eventstore_consumer orders sell 3 5 2      appends three events: so many were sold
 *     ./eventstore_consumer orders count           adds up those that were not counted yet
 *
 * The counter reads on from its saved position. What it derives from a page of events, the totals,
 * it puts into the store's state, in one batch with the new position: after a crash both are there
 * or neither. Saved positions only grow, so that of two counters at once one would get a conflict.
 */

#include <duralog.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_EVENTS = 100 };

static const char NAME[] = "sales-totals"; /* of the saved position, and key of the state */
enum { NAME_LEN = sizeof NAME - 1 };

/* In the store as this machine has them; one that moves to others would spell them out in bytes. */
typedef struct totals_t {
    uint64_t orders;
    uint64_t sold;
} totals_t;

/* Ends the program unless it went well; what was acknowledged by then is safe. */
static void must(duralog_status_t status)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    if (status == DURALOG_OK)
        return;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s\n", duralog_status_name(status), error.message);
    exit(1);
}

static void sell(eventstore_t *store, eventstore_append_t *batch, char **numbers, int count)
{
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    event.stream = "sales";
    event.stream_len = strlen(event.stream);
    event.event_type = "Sold";
    event.event_type_len = strlen(event.event_type);
    for (int i = 0; i < count; i++) {
        event.data = (const uint8_t *)numbers[i];
        event.data_len = strlen(numbers[i]);
        must(eventstore_append_add_event(batch, &event));
    }
    must(eventstore_append(store, batch, 0, NULL));
}

static void add(totals_t *totals, const eventstore_page_t *page)
{
    for (size_t i = 0; i < page->count; i++) {
        uint64_t number = 0;
        for (uint32_t at = page->data_begin[i]; at < page->data_end[i]; at++)
            number = number * 10 + (uint64_t)(page->bytes[at] - '0');
        totals->orders++;
        totals->sold += number;
    }
}

static totals_t count(eventstore_t *store, eventstore_append_t *batch)
{
    totals_t totals = {0, 0};
    size_t len = 0;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    eventstore_cursor_t *cursor = NULL;
    const uint8_t *key = (const uint8_t *)NAME;

    /* At first there is neither, and both stay 0. */
    duralog_status_t status = eventstore_saved_position(store, NAME, NAME_LEN, &read.first);
    if (status == DURALOG_OK)
        status = eventstore_state(store, key, NAME_LEN, (uint8_t *)&totals, sizeof totals, &len);
    must(status == DURALOG_E_NOT_FOUND ? DURALOG_OK : status);

    read.first++;
    must(eventstore_read(store, &read, &cursor));
    while ((status = eventstore_cursor_next_page(cursor, PAGE_EVENTS, &page)) == DURALOG_OK) {
        const uint64_t position = page.position[page.count - 1];
        add(&totals, &page);
        must(eventstore_append_clear(batch));
        must(eventstore_append_put_state(batch, key, NAME_LEN, (uint8_t *)&totals, sizeof totals));
        must(eventstore_append_save_position(batch, NAME, NAME_LEN, position, 0));
        must(eventstore_append(store, batch, 0, NULL));
    }
    must(status == DURALOG_END ? DURALOG_OK : status);
    must(eventstore_cursor_close(cursor));
    return totals;
}

int main(int argc, char **argv)
{
    eventstore_t *store = NULL;
    eventstore_append_t *batch = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: %s STORE sell NUMBER... | %s STORE count\n", argv[0], argv[0]);
        return 2;
    }
    must(eventstore_open(argv[1], NULL, &store));
    must(eventstore_append_open(&batch));
    if (strcmp(argv[2], "sell") == 0) {
        sell(store, batch, argv + 3, argc - 3);
    } else {
        const totals_t totals = count(store, batch);
        printf("%" PRIu64 " orders, %" PRIu64 " sold\n", totals.orders, totals.sold);
    }
    must(eventstore_append_close(batch));
    must(eventstore_close(store));
    return 0;
}
