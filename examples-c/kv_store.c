/*
 * A key-value store in memory that survives: the job an LSM tree's memtable gives its log.
 *
 *     mkdir store && ./kv_store store
 *     put city Bonn      del city      get city      list      save
 *
 * A change goes to the log first and to memory after its commit. `save` writes memory to a snapshot
 * file, commits a checkpoint that names the file, and truncates the log. Opening loads the snapshot
 * that the last checkpoint names and replays what came after it. Two snapshot files take turns: the
 * one that is named is never written to, so there is a whole one at every moment.
 */

#define _POSIX_C_SOURCE 200809L
#include "kv_table.h"
#include <duralog.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static table_t table;
static char named[16]; /* the snapshot that the last checkpoint names */

static int failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    return 1;
}

static int apply(void *user_data, const wal_record_t *record)
{
    (void)user_data;
    pair_t pair = {{0}, {0}};
    if (record->key_len > TEXT_MAX || record->value_len > TEXT_MAX)
        return 1; /* not a record of ours */
    memcpy(pair.key, record->key, record->key_len);
    memcpy(pair.value, record->value, record->value_len);
    return table_change(&table, record->op == WAL_OP_PUT, &pair);
}

static int recover(wal_t *wal)
{
    size_t len = 0;
    uint64_t seq = 0;
    const duralog_status_t status =
        wal_last_checkpoint(wal, (uint8_t *)named, sizeof named - 1, &len, &seq);
    if (status == DURALOG_OK) {
        FILE *file = fopen(named, "rb");
        if (file == NULL || table_read(&table, file) != 0 || fclose(file) != 0) {
            perror(named);
            return 1;
        }
    } else if (status != DURALOG_E_NOT_FOUND) {
        return failed("wal_last_checkpoint");
    }
    return wal_replay(wal, seq, apply, NULL) == DURALOG_OK ? 0 : failed("wal_replay");
}

/* A checkpoint must never name a file that a power cut can still take or tear: its bytes are synced
   before it gets its name, and the name, by a sync of the directory, before the checkpoint. */
static int save(wal_t *wal)
{
    const char *name = strcmp(named, "snapshot.a") == 0 ? "snapshot.b" : "snapshot.a";
    FILE *file = fopen("snapshot.new", "wb");
    const int directory = open(".", O_RDONLY);
    if (file == NULL || directory < 0
        || table_write(&table, file) != 0 || fsync(fileno(file)) != 0 || fclose(file) != 0
        || rename("snapshot.new", name) != 0 || fsync(directory) != 0 || close(directory) != 0) {
        perror(name);
        return 1;
    }
    uint64_t seq = 0;
    if (wal_checkpoint(wal, (const uint8_t *)name, strlen(name), &seq) != DURALOG_OK)
        return failed("wal_checkpoint");
    strcpy(named, name);
    return wal_truncate(wal, seq - 1) == DURALOG_OK ? 0 : failed("wal_truncate");
}

static int change(wal_t *wal, uint8_t op, const pair_t *pair)
{
    if (wal_append(wal, op, (const uint8_t *)pair->key, strlen(pair->key),
                   (const uint8_t *)pair->value, strlen(pair->value), 0, NULL) != DURALOG_OK)
        return failed("wal_append");
    return table_change(&table, op == WAL_OP_PUT, pair); /* after the commit */
}

int main(int argc, char **argv)
{
    wal_t *wal = NULL;
    if (argc != 2 || chdir(argv[1]) != 0) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    if (wal_open("log", NULL, &wal) != DURALOG_OK)
        return failed("wal_open");
    int bad = recover(wal);
    char line[256];
    while (!bad && fgets(line, sizeof line, stdin) != NULL) {
        char verb[8] = "";
        pair_t pair = {"", ""};
        if (sscanf(line, "%7s %63s %63s", verb, pair.key, pair.value) < 1)
            continue;
        if (strcmp(verb, "put") == 0)
            bad = change(wal, WAL_OP_PUT, &pair);
        else if (strcmp(verb, "del") == 0)
            bad = change(wal, WAL_OP_DELETE, &pair);
        else if (strcmp(verb, "save") == 0)
            bad = save(wal);
        else
            table_print(&table, pair.key); /* get KEY, or list: all */
        if (!bad && (puts("ok") < 0 || fflush(stdout) != 0))
            bad = 1;
    }
    table_free(&table);
    return wal_close(wal) == DURALOG_OK ? bad : failed("wal_close");
}
