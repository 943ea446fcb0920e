/*
 * Events in and out as lines of JSON.
 *
 *     ./eventstore_ndjson store import events.ndjson     appends what is not there yet
 *     ./eventstore_ndjson store export copy.ndjson       writes all events, or goes on doing so
 *     ./eventstore_ndjson store import - < events.ndjson
 *
 * Either can be killed and repeated: an import knows again what is there, an export goes on behind
 * the last whole line. Needs a library with the feature ndjson (make FEATURES=ndjson), and the macro
 * DURALOG_NDJSON, which pkg-config gives then.
 */

#include <duralog.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int show(void *user_data, uint64_t bytes, uint64_t events, uint64_t total)
{
    (void)total; /* for those who show a percentage */
    fprintf(stderr, "%s: %" PRIu64 " events, %" PRIu64 " bytes\n", (const char *)user_data, events,
            bytes);
    return 0; /* go on */
}

static void import(eventstore_t *store, const char *path)
{
    char name[] = "import";
    eventstore_import_options_t options = EVENTSTORE_IMPORT_OPTIONS_INIT;
    eventstore_import_report_t report = EVENTSTORE_IMPORT_REPORT_INIT;
    duralog_status_t status;
    options.fd = 0;
    status = eventstore_import_ndjson(store, path, &options, show, name, &report);
    printf("%" PRIu64 " lines: %" PRIu64 " events imported, %" PRIu64 " were there already\n",
           report.line_count, report.imported_count, report.known_count);
    if (report.torn_line > 0)
        printf("line %" PRIu64 " is torn and was left out\n", report.torn_line);
    if (report.bad_line > 0)
        printf("stopped at line %" PRIu64 ", before its batch\n", report.bad_line);
    must(status);
}

static void export(eventstore_t *store, const char *path)
{
    char name[] = "export";
    eventstore_export_options_t options = EVENTSTORE_EXPORT_OPTIONS_INIT;
    eventstore_export_report_t report = EVENTSTORE_EXPORT_REPORT_INIT;
    options.fd = 1;
    options.resume = path != NULL;
    must(eventstore_export_ndjson(store, path, &options, show, name, &report));
    fprintf(stderr, "%" PRIu64 " events written, up to position %" PRIu64 "\n", report.event_count,
            report.last_position);
}

int main(int argc, char **argv)
{
    eventstore_t *store = NULL;
    const char *path;
    if (argc != 4 || (strcmp(argv[2], "import") != 0 && strcmp(argv[2], "export") != 0)) {
        fprintf(stderr, "usage: %s STORE import|export FILE (- for standard input or output)\n", argv[0]);
        return 2;
    }
    path = strcmp(argv[3], "-") == 0 ? NULL : argv[3];
    must(eventstore_open(argv[1], NULL, &store));
    if (strcmp(argv[2], "import") == 0)
        import(store, path);
    else
        export(store, path);
    must(eventstore_close(store));
    return 0;
}
