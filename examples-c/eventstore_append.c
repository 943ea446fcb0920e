/*
 * Seats of a course: a rule over many streams that holds however many subscribe at once.
 *
 *     ./eventstore_append school course:c1 2 anna ben carla      three want one of two seats
 *
 * A subscription is an event of the student's stream with the course's tag. To decide, each thread
 * reads what the rule is about and remembers up to where it read; it appends on the condition that
 * nothing behind that place matches the same query. If another thread was faster, the store answers
 * DURALOG_E_CONFLICT, and it decides again on what is true now.
 */

#include <duralog.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_MAX = 64 };

typedef struct student_t {
    pthread_t thread;
    eventstore_t *store; /* shared by all */
    const char *stream;
    const char *tag;
    uint64_t seats;
    uint64_t seats_taken; /* what the decision rests on: all events ... */
    uint64_t position;    /* ... up to this one */
    int has_seat;
} student_t;

/* Ends the program unless it went well; what was acknowledged by then is safe. */
static void must(duralog_status_t status)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    if (status != DURALOG_OK) {
        duralog_last_error(&error);
        fprintf(stderr, "%s: %s\n", duralog_status_name(status), error.message);
        exit(1);
    }
}

static void look(student_t *student, eventstore_query_t *query)
{
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    eventstore_cursor_t *cursor = NULL;
    duralog_status_t status;
    read.selection = EVENTSTORE_READ_QUERY;
    read.query = query;
    student->seats_taken = 0;
    must(eventstore_last_position(student->store, &student->position));
    must(eventstore_read(student->store, &read, &cursor));
    while ((status = eventstore_cursor_next(cursor, &event)) == DURALOG_OK) {
        student->seats_taken++;
        student->has_seat |= event.stream_len == strlen(student->stream)
                             && memcmp(event.stream, student->stream, event.stream_len) == 0;
    }
    must(status == DURALOG_END ? DURALOG_OK : status);
    must(eventstore_cursor_close(cursor));
}

static void *subscribe(void *user_data)
{
    student_t *student = user_data;
    const size_t tag_len = strlen(student->tag);
    eventstore_append_t *batch = NULL;
    eventstore_query_t *query = NULL;
    eventstore_new_event_t event = EVENTSTORE_NEW_EVENT_INIT;
    event.stream = student->stream;
    event.stream_len = strlen(student->stream);
    event.event_type = "Subscribed";
    event.event_type_len = 10;
    event.tags = &student->tag;
    event.tag_lens = &tag_len;
    event.tag_count = 1;

    must(eventstore_append_open(&batch));
    must(eventstore_query_open(&query));
    must(eventstore_query_add_item(query));
    must(eventstore_query_add_tag(query, student->tag, tag_len));
    for (;;) {
        look(student, query);
        if (student->has_seat || student->seats_taken >= student->seats)
            break;
        must(eventstore_append_clear(batch));
        must(eventstore_append_add_event(batch, &event));
        must(eventstore_append_add_condition(batch, query, student->position));
        const duralog_status_t status = eventstore_append(student->store, batch, 0, NULL);
        must(status == DURALOG_E_CONFLICT ? DURALOG_OK : status);
    }
    must(eventstore_query_close(query));
    must(eventstore_append_close(batch));
    return NULL;
}

int main(int argc, char **argv)
{
    static student_t students[ARGUMENTS_MAX];
    eventstore_t *store = NULL;
    if (argc < 5 || argc > ARGUMENTS_MAX) {
        fprintf(stderr, "usage: %s STORE TAG SEATS STUDENT...\n", argv[0]);
        return 2;
    }
    must(eventstore_open(argv[1], NULL, &store));
    for (int i = 4; i < argc; i++) {
        students[i].store = store;
        students[i].tag = argv[2];
        students[i].seats = strtoull(argv[3], NULL, 10);
        students[i].stream = argv[i];
        if (pthread_create(&students[i].thread, NULL, subscribe, &students[i]) != 0)
            abort();
    }
    for (int i = 4; i < argc; i++) {
        pthread_join(students[i].thread, NULL);
        printf("%s: %s\n", argv[i], students[i].has_seat ? "a seat" : "no seat");
    }
    must(eventstore_close(store));
    return 0;
}
