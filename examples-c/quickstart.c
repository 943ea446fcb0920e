/*
 * Puts the files of folders into a log, one batch per folder: key, the path; value, the contents.
 *
 *     ./quickstart mylog 20 src src/wal src/format
 *
 * After each batch it prints "ack", the folder's number and its name: from then on that folder is
 * safe. Start it again with the same folders after it was killed, and it goes on where it died: the
 * log itself knows which batches are in it. `make quickstart` does that (tools/quickstart.py).
 * The second argument is a pause between the batches in milliseconds, to give time for the kill.
 */

#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <duralog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { FILES_MAX = 500 }; /* of one folder */

static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

/* Reads the file at path into a record. Returns 0, or 1: it can't be read. */
static int read_file(char *path, size_t len, wal_op_t *op)
{
    uint8_t *contents = malloc(len + 1);
    FILE *file = fopen(path, "rb");
    const int bad = contents == NULL || file == NULL || fread(contents, 1, len, file) != len;
    if (file != NULL)
        fclose(file);
    *op = (wal_op_t){(uint8_t *)path, contents, strlen(path), len, WAL_OP_PUT, {0}};
    return bad;
}

/* Commits all files of a folder as one batch: they are in the log together, or none is. */
static int append_folder(wal_t *wal, const char *folder)
{
    wal_op_t ops[FILES_MAX];
    size_t count = 0;
    int bad = 0;
    struct dirent *entry;
    struct stat found;
    DIR *directory = opendir(folder);
    while (directory != NULL && !bad && (entry = readdir(directory)) != NULL) {
        char *path = malloc(strlen(folder) + strlen(entry->d_name) + 2);
        bad = path == NULL || count == FILES_MAX;
        if (!bad)
            sprintf(path, "%s/%s", folder, entry->d_name);
        if (!bad && lstat(path, &found) == 0 && S_ISREG(found.st_mode))
            bad = read_file(path, (size_t)found.st_size, &ops[count++]);
        else
            free(path); /* a folder inside this one is a batch of its own */
    }
    if (directory == NULL || closedir(directory) != 0 || bad) {
        perror(folder);
        bad = 1;
    } else if (wal_append_batch(wal, ops, count, 0, NULL) != DURALOG_OK) {
        bad = failed(folder);
    }
    for (size_t i = 0; i < count; i++) {
        free((void *)ops[i].key);
        free((void *)ops[i].value);
    }
    return bad;
}

typedef struct batches_t {
    uint64_t last_id;
    int count;
} batches_t;

static int count_batches(void *user_data, const wal_record_t *record)
{
    batches_t *batches = user_data;
    batches->count += record->batch_id != batches->last_id;
    batches->last_id = record->batch_id;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s LOG PAUSE_MS FOLDER...\n", argv[0]);
        return 2;
    }
    const long pause_ms = strtol(argv[2], NULL, 10);
    const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};

    wal_t *wal = NULL;
    batches_t found = {0, 0};
    if (wal_open(argv[1], NULL, &wal) != DURALOG_OK)
        return failed("wal_open");
    if (wal_replay(wal, 0, count_batches, &found) != DURALOG_OK)
        return failed("wal_replay");
    printf("found %d\n", found.count);

    for (int i = found.count; i < argc - 3; i++) {
        if (append_folder(wal, argv[i + 3]) != 0)
            return 1;
        printf("ack %d %s\n", i + 1, argv[i + 3]);
        fflush(stdout);
        nanosleep(&pause, NULL);
    }
    return wal_close(wal) == DURALOG_OK ? 0 : failed("wal_close");
}
