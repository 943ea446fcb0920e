/*
 * Opens a log of examples-c/quickstart.c that a power cut left, as a user would, and compares it
 * with the folders. $POWERCUT_ACKS names a file of what had been printed before the cut.
 *
 *     powercut_check_folders LOG FILES FOLDER...
 *
 * Every folder, and there are FILES files in each, is a batch: the acknowledged ones are there, at
 * most one more is, and all that is there is whole and equals the files.
 */

#include <duralog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char **folders;
static unsigned long files;

static int fail(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    printf("%s (last error: %s: %s)\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

static int is_file(const wal_record_t *record)
{
    static uint8_t contents[1 << 20];
    char path[4096] = {0};
    if (record->key_len >= sizeof path)
        return 0;
    memcpy(path, record->key, record->key_len);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return 0;
    const size_t len = fread(contents, 1, sizeof contents, file);
    fclose(file);
    return len == record->value_len && memcmp(contents, record->value, len) == 0;
}

/* Records seen, and the batch of the last one. */
typedef struct walk_t {
    unsigned long records;
    uint64_t batch_id;
} walk_t;

static int expect(void *user_data, const wal_record_t *record)
{
    walk_t *walk = user_data;
    const char *folder = folders[walk->records / files];
    const int begins = walk->records++ % files == 0;
    if (begins == (record->batch_id == walk->batch_id))
        return fail("a batch does not begin where its folder does");
    walk->batch_id = record->batch_id;
    if (folder == NULL || record->key_len <= strlen(folder)
        || memcmp(record->key, folder, strlen(folder)) != 0 || record->key[strlen(folder)] != '/')
        return fail("a record of another folder than the next one");
    return is_file(record) ? 0 : fail("a record that does not equal its file");
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    files = strtoul(argv[2], NULL, 10);
    folders = argv + 3;

    unsigned long acked = 0;
    char line[4096];
    FILE *acks = fopen(getenv("POWERCUT_ACKS"), "r");
    while (acks != NULL && fgets(line, sizeof line, acks) != NULL)
        sscanf(line, "ack %lu ", &acked);
    if (acks == NULL || fclose(acks) != 0)
        return fail("POWERCUT_ACKS can't be read");

    wal_t *wal = NULL;
    walk_t walk = {0, 0};
    if (wal_open(argv[1], NULL, &wal) != DURALOG_OK)
        return fail("wal_open");
    if (wal_replay(wal, 0, expect, &walk) != DURALOG_OK)
        return fail("wal_replay");
    if (walk.records % files != 0)
        return fail("a part of a folder");
    if (walk.records / files < acked || walk.records / files > acked + 1) {
        printf("%lu folders were acknowledged, %lu are there\n", acked, walk.records / files);
        return 1;
    }
    return wal_close(wal) == DURALOG_OK ? 0 : fail("wal_close");
}
