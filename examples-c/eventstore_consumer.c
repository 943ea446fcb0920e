/*
 * Totals over events that count each of them exactly once, wherever the program dies.
 *
 *     ./eventstore_consumer orders sell 3 5 2          appends an event for each: so many were sold
 *     ./eventstore_consumer orders count               adds up those that were not counted yet
 *     seq 99 | ./eventstore_consumer orders follow     sells what comes, and counts meanwhile
 *
 * The counter subscribes behind its saved position, and puts the totals into the store's state in one
 * batch with the new position: after a crash both are there or neither.
 */

#include <duralog.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "sales-totals"; /* of the saved position, and key of the state */
enum { NAME_LEN = sizeof NAME - 1, PAGE = 100 };

typedef struct counter_t {
    eventstore_t *store;
    eventstore_subscription_t *events;
    int64_t wait_ms_max;
    uint64_t totals[2]; /* orders, sold: in the store as this machine has them */
} counter_t;

/* Ends the program if it went wrong; what was acknowledged by then is safe. */
static duralog_status_t must(duralog_status_t status)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    if (status >= DURALOG_OK)
        return status;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s\n", duralog_status_name(status), error.message);
    exit(1);
}

static void sell(eventstore_t *store, eventstore_append_t *batch, const char *number)
{
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    event.stream = "sales";
    event.stream_len = strlen(event.stream);
    event.event_type = "Sold";
    event.event_type_len = strlen(event.event_type);
    event.data = (const uint8_t *)number;
    event.data_len = strspn(number, "0123456789");
    must(eventstore_append_clear(batch));
    must(eventstore_append_add_event(batch, &event));
    must(eventstore_append(store, batch, 0, NULL));
}

/* Counts until nothing comes in time, or the subscription is cancelled. */
static void *count(void *argument)
{
    counter_t *counter = argument;
    eventstore_append_t *batch = NULL;
    eventstore_page_t page = EVENTSTORE_PAGE_INIT;
    must(eventstore_append_open(&batch));
    while (must(eventstore_subscription_next_page(counter->events, PAGE, counter->wait_ms_max,
                                                  &page)) == DURALOG_OK) {
        for (size_t i = 0; i < page.count; i++, counter->totals[0]++) {
            uint64_t number = 0;
            for (uint32_t at = page.data_begin[i]; at < page.data_end[i]; at++)
                number = number * 10 + (uint64_t)(page.bytes[at] - '0');
            counter->totals[1] += number;
        }
        must(eventstore_append_clear(batch));
        must(eventstore_append_put_state(batch, (const uint8_t *)NAME, NAME_LEN,
                                         (uint8_t *)counter->totals, sizeof counter->totals));
        must(eventstore_append_save_position(batch, NAME, NAME_LEN, page.position[page.count - 1],
                                             0));
        must(eventstore_append(counter->store, batch, 0, NULL));
    }
    must(eventstore_append_close(batch));
    return NULL;
}

int main(int argc, char **argv)
{
    counter_t counter = {NULL, NULL, 0, {0, 0}};
    eventstore_append_t *batch = NULL;
    size_t len = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: %s STORE sell NUMBER... | count | follow\n", argv[0]);
        return 2;
    }
    must(eventstore_open(argv[1], NULL, &counter.store));
    must(eventstore_append_open(&batch));
    for (int i = 3; i < argc; i++)
        sell(counter.store, batch, argv[i]);
    if (strcmp(argv[2], "sell") != 0) {
        const duralog_status_t status =
            eventstore_state(counter.store, (const uint8_t *)NAME, NAME_LEN,
                             (uint8_t *)counter.totals, sizeof counter.totals, &len);
        must(status == DURALOG_E_NOT_FOUND ? DURALOG_OK : status); /* at first both are 0 */
        must(eventstore_subscribe(counter.store, NULL, EVENTSTORE_FROM_SAVED, 0, NAME, NAME_LEN,
                                  &counter.events));
        if (strcmp(argv[2], "follow") == 0) {
            char line[32];
            pthread_t thread;
            counter.wait_ms_max = -1; /* as long as it takes */
            if (pthread_create(&thread, NULL, count, &counter) != 0)
                return 1;
            while (fgets(line, sizeof line, stdin) != NULL)
                sell(counter.store, batch, line);
            must(eventstore_subscription_cancel(counter.events)); /* the rest is counted later */
            pthread_join(thread, NULL);
        } else {
            count(&counter);
        }
        printf("%" PRIu64 " orders, %" PRIu64 " sold\n", counter.totals[0], counter.totals[1]);
        must(eventstore_subscription_close(counter.events));
    }
    must(eventstore_append_close(batch));
    must(eventstore_close(counter.store));
    return 0;
}
