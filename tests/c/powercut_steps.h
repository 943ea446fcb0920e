/*
 * What the programs of tests/powercut.rs that append in one thread share (powercut_writer.c,
 * powercut_events.c): their arguments, and what they do about an error.
 *
 *     PROGRAM PATH LAST [MODE [BASE]]
 *
 * The program begins after batch BASE, which is there, and ends with batch LAST. MODE says what is done
 * about an error:
 *
 *     stop    nothing more is appended and all is closed: exit status 1. The default.
 *     goon    full: the same call again. Else close, open, and take the step again if it was not
 *             carried out. An error comes once only, so this gets through, or aborts.
 *     manual  as stop; but what it acknowledges is not durable: a mistake that must be found.
 */

#ifndef DURALOG_TESTS_POWERCUT_STEPS_H
#define DURALOG_TESTS_POWERCUT_STEPS_H

#include <duralog.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;
static uint32_t sync_mode;
static int goes_on;

/* ---- what each program has of its own ---- */

/* Opens what is at `path`, in `sync_mode`. */
static duralog_status_t try_open(void);
/* Closes it, if it is open; it is released whatever the status says. */
static duralog_status_t try_close(void);
/* After reopening: whether a step that failed so was carried out all the same. */
static int was_carried_out(const duralog_error_t *error);

/* ---- arguments ---- */

static void read_arguments(int argc, char **argv, uint32_t *base, uint32_t *last)
{
    if (argc < 3)
        exit(2);
    alarm(60); /* what hangs is killed */
    path = argv[1];
    *last = (uint32_t)strtoul(argv[2], NULL, 10);
    const char *mode = argc > 3 ? argv[3] : "stop";
    *base = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    goes_on = strcmp(mode, "goon") == 0;
    sync_mode = strcmp(mode, "manual") == 0 ? WAL_SYNC_MANUAL : WAL_SYNC_EVERY;
}

/* ---- errors ---- */

/* Says what failed, and ends the program unless it goes on. */
static duralog_error_t failed(const char *what)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    duralog_last_error(&error);
    fprintf(stderr, "%s: %s: %s\n", what, duralog_status_name(error.status), error.message);
    if (!goes_on) {
        try_close();
        exit(1);
    }
    return error;
}

static void open_it(void)
{
    if (try_open() == DURALOG_OK)
        return;
    failed("open");
    if (try_open() != DURALOG_OK) {
        failed("open, again");
        abort();
    }
}

static void close_it(void)
{
    if (try_close() != DURALOG_OK)
        failed("close");
}

/* ---- steps ---- */

/* What happens for batch `batch`. */
typedef duralog_status_t step_t(uint32_t batch);

/* Takes a step, until it is taken; `what` tells which. */
static void take(step_t *step, uint32_t batch, const char *what)
{
    for (int attempt = 1; step(batch) != DURALOG_OK; attempt++) {
        const duralog_error_t error = failed(what);
        if (attempt == 3)
            abort();
        if (error.status == DURALOG_E_FULL)
            continue; /* nothing was written, and the handle stays usable */
        try_close();
        open_it();
        if (was_carried_out(&error))
            return;
    }
}

/* A promise that the world has heard is one that must be kept: hence the flush. */
static void tell(const char *what, uint64_t number)
{
    printf("%s %llu\n", what, (unsigned long long)number);
    fflush(stdout);
}

#endif
