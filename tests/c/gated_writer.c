/*
 * A writer whose syncs can be held, so that a batch stands written but not acknowledged for as long
 * as a test needs; tests/processes.rs.
 *
 * The library calls fdatasync through the dynamic linker, which finds the one below first.
 *
 * Usage: gated_writer LOG MODE
 * MODE: every or manual. Segments are full at 64 KiB.
 *
 * Commands, a line each on standard input, and the reports that follow:
 *     append TEXT    appends a batch of two records whose values are TEXT:   @A seq
 *     fill           appends one record of 64 KiB, so the segment is full:   @A seq
 *     hold           from now on a sync reports @H, and waits for the next line, whichever it is
 *     let            as that next line: goes on, and holds no more
 *     close          closes the log and ends:                                @X
 */

#define _GNU_SOURCE

#include <duralog.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int holding = 0;

static void must(duralog_status_t status)
{
    if (status == DURALOG_OK)
        return;
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    printf("@E %s: %s\n", duralog_status_name(status), error.message);
    fflush(stdout);
    exit(1);
}

static int command(char *line, size_t capacity)
{
    fflush(stdout);
    if (fgets(line, (int)capacity, stdin) == NULL)
        return 0;
    line[strcspn(line, "\n")] = 0;
    return 1;
}

int fdatasync(int fd)
{
    if (holding) {
        char line[256];
        puts("@H");
        if (!command(line, sizeof line))
            exit(0);
        holding = 0;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    static uint8_t filling[65536];
    memset(filling, '.', sizeof filling);
    wal_options_t options = WAL_OPTIONS_INIT;
    options.segment_bytes_max = 65536;
    options.sync_mode = strcmp(argv[2], "manual") == 0 ? WAL_SYNC_MANUAL : WAL_SYNC_EVERY;
    wal_t *wal = NULL;
    must(wal_open(argv[1], &options, &wal));
    puts("@O");
    char line[256];
    uint64_t seq;
    while (command(line, sizeof line)) {
        if (strncmp(line, "append ", 7) == 0) {
            const uint8_t *text = (const uint8_t *)line + 7;
            size_t len = strlen(line + 7);
            wal_op_t ops[2] = {
                {(const uint8_t *)"1", text, 1, len, WAL_OP_PUT, {0}},
                {(const uint8_t *)"2", text, 1, len, WAL_OP_PUT, {0}},
            };
            must(wal_append_batch(wal, ops, 2, 0, &seq));
            printf("@A %" PRIu64 "\n", seq);
        } else if (strcmp(line, "fill") == 0) {
            must(wal_append(wal, WAL_OP_PUT, (const uint8_t *)"fill", 4, filling, sizeof filling,
                            0, &seq));
            printf("@A %" PRIu64 "\n", seq);
        } else if (strcmp(line, "hold") == 0) {
            holding = 1;
        } else {
            break;
        }
    }
    must(wal_close(wal));
    puts("@X");
    return fflush(stdout) == 0 ? 0 : 1;
}
