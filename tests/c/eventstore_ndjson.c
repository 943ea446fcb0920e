/*
 * Lines of JSON through the C face: what is refused and writes no output, and each outcome with what
 * its report says.
 *
 * Run by tests/eventstore_ndjson.rs with an empty directory, also under valgrind.
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include <fcntl.h>
#include <unistd.h>

#define INVALID DURALOG_E_INVALID_ARGUMENT

static const uint32_t BAD_SIZES[] = {0, 1, 4, 4097, UINT32_MAX};
#define BAD_COUNT (sizeof BAD_SIZES / sizeof BAD_SIZES[0])
static const uint8_t NAMESPACE[16] = {7};

static char in_path[4096], out_path[4096], store_path[4096];
static eventstore_t *store = NULL;

typedef struct told_t {
    int calls;
    int stop_at; /* 0: never */
    uint64_t bytes, events, total;
} told_t;

static int tell(void *user_data, uint64_t bytes, uint64_t events, uint64_t total)
{
    told_t *told = user_data;
    told->calls++;
    told->bytes = bytes;
    told->events = events;
    told->total = total;
    return told->calls == told->stop_at;
}

/* So many lines, and then this. */
static void write_lines(int count, const char *end)
{
    FILE *file = fopen(in_path, "wb");
    if (file == NULL)
        abort();
    for (int i = 1; i <= count; i++)
        fprintf(file,
                "{\"event_id\": %d, \"stream_id\": \"s\", \"event_type\": \"T\", \"data\": {\"n\": %d}, "
                "\"timestamp\": \"2010-10-02T07:20:39+00:00\", \"metadata\": {}}\n",
                i, i);
    fputs(end, file);
    if (fclose(file) != 0)
        abort();
}

static int same_files(const char *left_path, const char *right_path)
{
    FILE *left = fopen(left_path, "rb");
    FILE *right = fopen(right_path, "rb");
    int a = 0, b = 0;
    if (left == NULL || right == NULL)
        abort();
    while (a == b && a != EOF) {
        a = getc(left);
        b = getc(right);
    }
    fclose(left);
    fclose(right);
    return a == b;
}

static void bad_arguments(void)
{
    eventstore_import_options_t import = EVENTSTORE_IMPORT_OPTIONS_INIT;
    eventstore_import_report_t imported = EVENTSTORE_IMPORT_REPORT_INIT;
    eventstore_export_options_t export = EVENTSTORE_EXPORT_OPTIONS_INIT;
    eventstore_export_report_t exported = EVENTSTORE_EXPORT_REPORT_INIT;
    told_t told = {0};
    imported.line_count = exported.event_count = 77;

    GIVES(INVALID, eventstore_import_ndjson(NULL, in_path, NULL, tell, &told, &imported));
    GIVES(INVALID, eventstore_import_ndjson(store, NULL, NULL, tell, &told, &imported));
    GIVES(INVALID, eventstore_import_ndjson(store, "", NULL, tell, &told, &imported));
    GIVES(INVALID, eventstore_export_ndjson(NULL, out_path, NULL, tell, &told, &exported));
    GIVES(INVALID, eventstore_export_ndjson(store, NULL, NULL, tell, &told, &exported));
    GIVES(INVALID, eventstore_export_ndjson(store, "", NULL, tell, &told, &exported));
    import.fd = export.fd = -1;
    GIVES(INVALID, eventstore_import_ndjson(store, NULL, &import, tell, &told, &imported));
    GIVES(INVALID, eventstore_export_ndjson(store, NULL, &export, tell, &told, &exported));
    import.fd = export.fd = 987654;
    GIVES(INVALID, eventstore_import_ndjson(store, NULL, &import, tell, &told, &imported));
    GIVES(INVALID, eventstore_export_ndjson(store, NULL, &export, tell, &told, &exported));
    import.reserved = export.reserved = 1;
    GIVES(INVALID, eventstore_import_ndjson(store, in_path, &import, tell, &told, &imported));
    GIVES(INVALID, eventstore_export_ndjson(store, out_path, &export, tell, &told, &exported));
    import.reserved = export.reserved = 0;
    export.resume = 2;
    GIVES(INVALID, eventstore_export_ndjson(store, out_path, &export, tell, &told, &exported));
    export.resume = 1;
    GIVES(INVALID, eventstore_export_ndjson(store, NULL, &export, tell, &told, &exported));
    for (size_t i = 0; i < BAD_COUNT; i++) {
        import.struct_size = imported.struct_size = BAD_SIZES[i];
        export.struct_size = exported.struct_size = BAD_SIZES[i];
        GIVES(INVALID, eventstore_import_ndjson(store, in_path, &import, tell, &told, NULL));
        GIVES(INVALID, eventstore_import_ndjson(store, in_path, NULL, tell, &told, &imported));
        GIVES(INVALID, eventstore_export_ndjson(store, out_path, &export, tell, &told, NULL));
        GIVES(INVALID, eventstore_export_ndjson(store, out_path, NULL, tell, &told, &exported));
    }
    imported.struct_size = sizeof imported;
    GIVES(DURALOG_E_NOT_FOUND,
          eventstore_import_ndjson(store, "/no/such/file", NULL, tell, &told, NULL));
    HOLDS(told.calls == 0 && imported.line_count == 77 && exported.event_count == 77);
    HOLDS(access(out_path, F_OK) != 0);
}

static void importing(void)
{
    eventstore_import_options_t options = EVENTSTORE_IMPORT_OPTIONS_INIT;
    eventstore_import_report_t report = EVENTSTORE_IMPORT_REPORT_INIT;
    duralog_error_t error = DURALOG_ERROR_INIT;
    told_t told = {0};
    uint64_t position = 0;
    int fd;

    /* A damaged line: the batches before its own are in, and the report says so. */
    options.batch_lines = 10;
    write_lines(24, "{\"event_id\": 25}\n");
    GIVES(DURALOG_E_BAD_LINE, eventstore_import_ndjson(store, in_path, &options, tell, &told, &report));
    duralog_last_error(&error);
    HOLDS(strcmp(error.message, "line 25: has no stream_id") == 0);
    HOLDS(strcmp(error.path, in_path) == 0);
    HOLDS(report.line_count == 25 && report.bad_line == 25 && report.torn_line == 0);
    HOLDS(report.imported_count == 20 && report.known_count == 0);
    HOLDS(told.calls == 2 && told.events == 20 && told.total > told.bytes);
    GIVES(DURALOG_OK, eventstore_last_position(store, &position));
    HOLDS(position == 20);

    /* Repeated, with a torn line. */
    write_lines(50, "{\"event_id\": 51");
    GIVES(DURALOG_OK, eventstore_import_ndjson(store, in_path, NULL, NULL, NULL, &report));
    HOLDS(report.line_count == 51 && report.bad_line == 0 && report.torn_line == 51);
    HOLDS(report.imported_count == 30 && report.known_count == 20);

    /* Stopped, through a descriptor, which stays open. */
    write_lines(90, "");
    memset(&told, 0, sizeof told);
    told.stop_at = 6;
    options.fd = open(in_path, O_RDONLY);
    GIVES(DURALOG_STOPPED, eventstore_import_ndjson(store, NULL, &options, tell, &told, &report));
    HOLDS(report.line_count == 60 && report.imported_count == 10 && report.known_count == 50);
    HOLDS(told.calls == 6 && told.events == 60 && told.bytes > 0 && told.total > told.bytes);
    HOLDS(close(options.fd) == 0);

    /* An event that is there, and says something else. */
    write_lines(60, "{\"event_id\": 5, \"stream_id\": \"s\", \"event_type\": \"T\", \"timestamp\": \"\"}");
    GIVES(DURALOG_E_BAD_LINE, eventstore_import_ndjson(store, in_path, &options, NULL, NULL, &report));
    HOLDS(report.bad_line == 61 && report.known_count == 60 && report.imported_count == 0);

    /* In a namespace of their own they are other events. */
    options.id_namespace = NAMESPACE;
    write_lines(3, "");
    GIVES(DURALOG_OK, eventstore_import_ndjson(store, in_path, &options, NULL, NULL, NULL));
    GIVES(DURALOG_OK, eventstore_last_position(store, &position));
    HOLDS(position == 63);

    /* A pipe has no size. */
    {
        static const char line[] = "{\"event_id\":\"p\",\"stream_id\":\"p\",\"event_type\":\"T\",\"timestamp\":\"\"}";
        int ends[2];
        HOLDS(pipe(ends) == 0 && write(ends[1], line, sizeof line - 1) == (ssize_t)(sizeof line - 1));
        HOLDS(close(ends[1]) == 0);
        options.fd = ends[0];
        memset(&told, 0, sizeof told);
        GIVES(DURALOG_OK, eventstore_import_ndjson(store, NULL, &options, tell, &told, &report));
        HOLDS(report.imported_count == 1 && told.total == 0 && told.bytes == sizeof line - 1);
        HOLDS(close(ends[0]) == 0);
    }

    /* Not for reading. */
    fd = open(out_path, O_WRONLY | O_CREAT, 0600);
    options.fd = fd;
    GIVES(DURALOG_E_IO, eventstore_import_ndjson(store, NULL, &options, NULL, NULL, &report));
    HOLDS(close(fd) == 0 && unlink(out_path) == 0);
}

static void exporting(void)
{
    eventstore_export_options_t options = EVENTSTORE_EXPORT_OPTIONS_INIT;
    eventstore_export_report_t report = EVENTSTORE_EXPORT_REPORT_INIT;
    told_t told = {0};
    char copy_path[5000];
    snprintf(copy_path, sizeof copy_path, "%s-2", out_path);

    GIVES(DURALOG_OK, eventstore_export_ndjson(store, out_path, NULL, tell, &told, &report));
    HOLDS(report.event_count == 64 && report.last_position == 64);
    HOLDS(told.calls == 1 && told.events == 64 && told.total == 64 && told.bytes > 0);
    GIVES(DURALOG_E_EXISTS, eventstore_export_ndjson(store, out_path, NULL, NULL, NULL, NULL));
    HOLDS(truncate(out_path, 1000) == 0);
    options.resume = 1;
    GIVES(DURALOG_OK, eventstore_export_ndjson(store, out_path, &options, NULL, NULL, &report));
    HOLDS(report.event_count > 50 && report.event_count < 64 && report.last_position == 64);
    options.from_position = 2;
    GIVES(INVALID, eventstore_export_ndjson(store, out_path, &options, NULL, NULL, &report));

    options.resume = 0;
    options.from_position = 0;
    options.fd = open(copy_path, O_WRONLY | O_CREAT, 0600);
    GIVES(DURALOG_OK, eventstore_export_ndjson(store, NULL, &options, NULL, NULL, NULL));
    HOLDS(close(options.fd) == 0);
    HOLDS(same_files(out_path, copy_path));

    /* Enough to be stopped in between. */
    write_lines(2000, "");
    GIVES(DURALOG_OK, eventstore_import_ndjson(store, in_path, NULL, NULL, NULL, NULL));
    HOLDS(unlink(out_path) == 0);
    memset(&told, 0, sizeof told);
    told.stop_at = 1;
    GIVES(DURALOG_STOPPED, eventstore_export_ndjson(store, out_path, NULL, tell, &told, &report));
    HOLDS(report.event_count == 1000 && report.last_position == 1000);
    HOLDS(told.calls == 1 && told.events == 1000 && told.total == 2004);
}

static void read_only(void)
{
    wal_options_t wal = WAL_OPTIONS_INIT;
    eventstore_options_t options = EVENTSTORE_OPTIONS_INIT;
    eventstore_import_report_t report = EVENTSTORE_IMPORT_REPORT_INIT;
    eventstore_export_report_t exported = EVENTSTORE_EXPORT_REPORT_INIT;
    options.wal = &wal;
    wal.open_flags = WAL_OPEN_READ_ONLY;
    HOLDS(unlink(out_path) == 0);
    GIVES(DURALOG_OK, eventstore_open(store_path, &options, &store));
    GIVES(DURALOG_E_READ_ONLY, eventstore_import_ndjson(store, in_path, NULL, NULL, NULL, &report));
    HOLDS(report.imported_count == 0 && report.bad_line == 0);
    GIVES(DURALOG_OK, eventstore_export_ndjson(store, out_path, NULL, NULL, NULL, &exported));
    HOLDS(exported.event_count == 2004);
    GIVES(DURALOG_OK, eventstore_close(store));
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    snprintf(store_path, sizeof store_path, "%s/store", argv[1]);
    snprintf(in_path, sizeof in_path, "%s/in.ndjson", argv[1]);
    snprintf(out_path, sizeof out_path, "%s/out.ndjson", argv[1]);
    GIVES(DURALOG_OK, eventstore_open(store_path, NULL, &store));
    write_lines(1, "");
    bad_arguments();
    importing();
    exporting();
    GIVES(DURALOG_OK, eventstore_close(store));
    read_only();
    return check_result();
}
