/*
 * What the event store's writers of tests/powercut.rs append, and what its checker therefore expects:
 * batch n holds the same events in C (powercut_events.c, powercut_check_events.c) and in Python
 * (powercut_events.py).
 *
 *     batch n        events_count(n) events, under an idempotency key, on the condition of a stream
 *                    version if n is odd, of a query if it is even
 *     every 3rd      with the saved position "batches" and the state "batch", both n
 *     every 5th      then a subscriber adds up all events behind its saved position "totals", and
 *                    saves position and sums in one batch
 *     every 10th     then a snapshot of version n
 *     every 30th     has so many events that the index gets a file when the store is closed
 *     every 35th     then the store is closed and opened again
 */

#ifndef DURALOG_TESTS_EVENTS_H
#define DURALOG_TESTS_EVENTS_H

#include <duralog.h>
#include <stdint.h>
#include <stdio.h>

enum { EVENTS_STREAMS = 5, EVENTS_TAGS = 4, EVENTS_DATA_MAX = 9000, EVENTS_BULK = 2100 };

/* Small, so that a short run goes through several segments. */
enum { EVENTS_SEGMENT_BYTES = 65536 };

static inline uint32_t events_count(uint32_t batch)
{
    return batch % 30 == 0 ? EVENTS_BULK : 1 + batch * 7 % 4;
}

/* Position of the last event of a batch. */
static inline uint64_t events_position(uint32_t batch)
{
    uint64_t position = 0;
    for (uint32_t n = 1; n <= batch; n++)
        position += events_count(n);
    return position;
}

typedef struct events_event_t {
    char stream[16];
    char event_type[16];
    char tag[16];
    uint8_t data[EVENTS_DATA_MAX];
    size_t stream_len;
    size_t event_type_len;
    size_t tag_len;
    size_t data_len;
} events_event_t;

static inline uint32_t events_stream(uint32_t batch, uint32_t index)
{
    return (batch + index) % EVENTS_STREAMS;
}

static inline size_t events_data_len(uint32_t batch, uint32_t index)
{
    if (events_count(batch) == EVENTS_BULK)
        return 8;
    return batch % 6 == 0 ? EVENTS_DATA_MAX - index : batch * batch * 37 % 1500 + index * 113;
}

static inline void events_event(uint32_t batch, uint32_t index, events_event_t *out)
{
    const unsigned stream = events_stream(batch, index);
    out->stream_len = (size_t)sprintf(out->stream, "s-%u", stream);
    out->event_type_len = (size_t)sprintf(out->event_type, "T%u", (unsigned)(batch % 3));
    out->tag_len = (size_t)sprintf(out->tag, "t-%u", (unsigned)(batch % EVENTS_TAGS));
    out->data_len = events_data_len(batch, index);
    for (size_t k = 0; k < out->data_len; k++)
        out->data[k] = (uint8_t)(batch * 31 + index * 17 + k * 7 + k / 256);
}

/* What the subscriber adds up. Its state is both, little-endian. */
typedef struct events_totals_t {
    uint64_t count;
    uint64_t bytes;
} events_totals_t;

enum { EVENTS_TOTALS_LEN = 16 };

static inline void events_totals_encode(events_totals_t totals, uint8_t *out)
{
    for (int k = 0; k < 8; k++) {
        out[k] = (uint8_t)(totals.count >> 8 * k);
        out[8 + k] = (uint8_t)(totals.bytes >> 8 * k);
    }
}

#endif
