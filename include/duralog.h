/*
 * duralog.h - an embedded write-ahead log: atomic, durable batches in a documented format; and an
 * event store on top of it.
 *
 * Generated from src/ffi by tests/header.rs; do not edit. FORMAT.md describes the bytes on disk.
 *
 *     #include <duralog.h>
 *     #include <stdio.h>
 *
 *     static int print(void *user_data, const wal_record_t *record)
 *     {
 *         (void)user_data;
 *         printf("%.*s = %.*s\n", (int)record->key_len, (const char *)record->key,
 *                (int)record->value_len, (const char *)record->value);
 *         return 0;
 *     }
 *
 *     int main(void)
 *     {
 *         wal_t *wal = NULL;
 *         int done = wal_open("mylog", NULL, &wal) == DURALOG_OK
 *                    && wal_append(wal, WAL_OP_PUT, (const uint8_t *)"city", 4,
 *                                  (const uint8_t *)"Bonn", 4, 0, NULL) == DURALOG_OK
 *                    && wal_replay(wal, 0, print, NULL) == DURALOG_OK;
 *         if (wal_close(wal) != DURALOG_OK || !done) {
 *             duralog_error_t error = DURALOG_ERROR_INIT;
 *             duralog_last_error(&error);
 *             fprintf(stderr, "%s: %s\n", duralog_status_name(error.status), error.message);
 *             return 1;
 *         }
 *         return 0;
 *     }
 *
 *
 * CONVENTIONS, which hold for every function below
 *
 *  1. Names. wal_ is the log, eventstore_ the event store, duralog_ what all parts of the library
 *     share. The noun comes first, then the verb.
 *
 *  2. Results. Functions that can fail return a duralog_status_t: DURALOG_OK (0), a positive
 *     number for another regular outcome, a negative one for an error. Outputs come last, are
 *     named out_... and are written only with DURALOG_OK. Comments list the statuses with a
 *     meaning of their own. Any function can also return
 *         DURALOG_E_INVALID_ARGUMENT  an argument is not as its comment asks; nothing was done;
 *         DURALOG_E_NO_MEMORY         memory could not be had; nothing was done;
 *         DURALOG_E_FORKED            the handle is the parent process's: open one of your own;
 *         DURALOG_E_INTERNAL          a defect of the library, caught at this boundary.
 *
 *  3. Last error. After a failure duralog_last_error tells what, where (segment, offset, LSN,
 *     file) and why. Each thread has its own.
 *
 *  4. Bytes in are a pointer and a length; NULL is allowed only with length 0. They are used
 *     during the call and never kept. Lengths that no memory can have are refused. Arrays of
 *     numbers and structs must be aligned as C aligns them. Texts are the same as char: UTF-8,
 *     with a length and without a NUL at the end, unless the comment says so.
 *
 *  5. Bytes out are borrowed: they stay valid until what the comment says, and are never freed
 *     or changed by the caller. Pointers to them are never NULL, also with length 0.
 *
 *  6. Handles are the only things that a caller releases, in any order, each once, by the
 *     ..._close of its type. NULL is nothing to close. A close releases always, also when it
 *     reports an error. Closed handles must not be used.
 *
 *  7. Structs that begin with struct_size grow at the end in later versions. Initialise them with
 *     their ..._INIT macro, those that are filled for you too: it sets struct_size to the size
 *     that your program knows, and all else to zero, which means the default. Fields beyond it
 *     are neither read nor written. Structs without struct_size never change. Fields named
 *     reserved must be 0, and are 0.
 *
 *  8. Callbacks are called during the call that was given them and on its thread, never later.
 *     user_data is their first argument. Non-zero stops. A callback must return: no longjmp, no
 *     exception.
 *
 *  9. Threads. Each type says one of three things.
 *         Shared:  used by any number of threads at once.
 *         Movable: used by one thread at a time, whichever it is.
 *         Callable at any time, said of functions: even during any other call.
 *     No handle may be used in a child made by fork; the log itself does not mind.
 *
 * 10. Numbers. A sequence number (seq) counts records, COMMIT marks and checkpoints, dense from
 *     1; 0 is before the first. An LSN is a place in the log, in bytes; 0 is none. A batch id is
 *     the LSN where the batch begins, and never given to another.
 *
 * 11. Durability. A batch is replayed whole or not at all. Acknowledged (its append returned
 *     DURALOG_OK) means durable with WAL_SYNC_EVERY, the default: it survives a power cut. After a
 *     failed write or sync the handle is poisoned: what was being written is indeterminate, no
 *     further append is accepted, reading goes on. Close it and open the log again, and ask
 *     wal_batch_status. DURALOG_E_FULL does not poison.
 *
 * 12. Events. A position is the number of an event in its store, a stream version its number in
 *     its stream; both count from 1 without gaps, and are given when the event is appended. A
 *     stream begins with its first event: one that is not there has version 0. The category of a
 *     stream is its name up to the first '-'. An event store is a log, so all that is said of
 *     durability, recovery and damage holds for it; only functions with eventstore_ may write to
 *     it.
 */

#ifndef DURALOG_H
#define DURALOG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* == Versions ================================================================================== */

/**
 * Version of the C face that this header describes. It grows with every addition; a program
 * works with any library whose duralog_abi_version() is at least the number it was compiled with.
 */
#define DURALOG_ABI_VERSION 1

/**
 * Version of the library, such as "0.1.0".
 *
 * Callable at any time, from any thread.
 *
 * Returns a static text, never NULL.
 */
const char *duralog_library_version(void);

/**
 * Version of the C face of the library that is loaded, to be compared with DURALOG_ABI_VERSION.
 *
 * Callable at any time, from any thread.
 */
uint32_t duralog_abi_version(void);

/**
 * Version of the files that the library writes: major << 16 | minor (FORMAT.md section 15). It
 * reads every file of the same or a smaller major.
 *
 * Callable at any time, from any thread.
 */
uint32_t duralog_format_version(void);

/* == Status ==================================================================================== */

/** The values of duralog_status_t. */
typedef enum duralog_status_code_t {
    /** Done. */
    DURALOG_OK = 0,
    /** A cursor is at the end; later calls may find more. */
    DURALOG_END = 1,
    /** The callback asked to stop. */
    DURALOG_STOPPED = 2,
    /** An argument is not allowed; nothing was done. */
    DURALOG_E_INVALID_ARGUMENT = -1,
    /** There is no log, or no such thing in it. */
    DURALOG_E_NOT_FOUND = -2,
    /** There is something already where it must not be. */
    DURALOG_E_EXISTS = -3,
    /** Another handle or process has the log open for writing; the message names it. */
    DURALOG_E_BUSY = -4,
    /** The operating system reported an error on a file: see os_error of duralog_error_t. */
    DURALOG_E_IO = -5,
    /** There is no space left. Nothing was written, and the handle stays usable. */
    DURALOG_E_FULL = -6,
    /**
     * Data that was acknowledged, or the structure of the log, is damaged: see segment, offset
     * and lsn of duralog_error_t.
     */
    DURALOG_E_CORRUPT = -7,
    /** The files are not a Duralog log. */
    DURALOG_E_NOT_A_LOG = -8,
    /** The files were written by a newer version, with features unknown here. */
    DURALOG_E_NEWER = -9,
    /** A record or a piece of data is over its limit; nothing was written. */
    DURALOG_E_TOO_LARGE = -10,
    /** A batch without records; nothing was written. */
    DURALOG_E_EMPTY_BATCH = -11,
    /** The handle was opened for reading only. */
    DURALOG_E_READ_ONLY = -12,
    /**
     * An earlier write or sync failed; the handle writes nothing more until the log is reopened.
     */
    DURALOG_E_POISONED = -13,
    /**
     * The write or sync of this very call failed: the batch may be there or not, and only
     * reopening tells (wal_batch_status).
     */
    DURALOG_E_INDETERMINATE = -14,
    /** The records asked for were truncated. */
    DURALOG_E_TRUNCATED = -15,
    /** The handle was inherited through fork and is of no use in the child. */
    DURALOG_E_FORKED = -16,
    /** The log was closed. */
    DURALOG_E_CLOSED = -17,
    /** Memory could not be had; nothing was written. */
    DURALOG_E_NO_MEMORY = -18,
    /** The time given was over first. */
    DURALOG_E_TIMEOUT = -19,
    /** This system or file system can't do it. */
    DURALOG_E_UNSUPPORTED = -20,
    /** A defect of the library. It was caught, and the log writes nothing more until reopened. */
    DURALOG_E_INTERNAL = -21,
    /** The log has an unclean end, and WAL_RECOVERY_STRICT refuses it. */
    DURALOG_E_UNCLEAN = -22,
    /** The buffer given is too small; the length needed was reported. */
    DURALOG_E_BUFFER_TOO_SMALL = -23,
    /** A precondition of an append to an event store did not hold; nothing was written. */
    DURALOG_E_CONFLICT = -24,
    /**
     * Events of an append, or its idempotency key, are in the store already, but not as they were
     * given; nothing was written.
     */
    DURALOG_E_DUPLICATE = -25,
    /** A line of a file can't be imported; nothing of its batch was. */
    DURALOG_E_BAD_LINE = -26,
} duralog_status_code_t;

/**
 * What most functions return: a number of duralog_status_code_t. 0 is success, a positive number
 * is another regular outcome, a negative one an error. A number is never used again for something
 * else, and new ones may come: treat an unknown negative number as an error.
 */
typedef int32_t duralog_status_t;

/**
 * Name of a status, such as "DURALOG_E_BUSY"; "DURALOG_E_UNKNOWN" for a number that is none.
 *
 * Callable at any time, from any thread.
 *
 * Returns a static text, never NULL.
 */
const char *duralog_status_name(duralog_status_t status);

/* == The last error ============================================================================ */

/** What went wrong, where, and what was expected and found. Start from DURALOG_ERROR_INIT. */
typedef struct duralog_error_t {
    /** Size of this struct; set by DURALOG_ERROR_INIT. */
    uint32_t struct_size;
    /** Status that the call returned; DURALOG_OK if no call of this thread has failed yet. */
    duralog_status_t status;
    /** The operating system's error number (errno) if that was the cause, else 0. */
    int32_t os_error;
    /** 0. */
    uint32_t reserved;
    /** Number of the segment concerned; 0 if none. */
    uint64_t segment;
    /** Offset in that segment's file, in bytes. */
    uint64_t offset;
    /**
     * LSN of the place, or of the batch concerned: after DURALOG_E_INDETERMINATE it is the batch
     * id to ask wal_batch_status for. 0 if none.
     */
    uint64_t lsn;
    /** One sentence in UTF-8, for people: do not parse it. Never NULL. */
    const char *message;
    /** File or directory concerned, empty if none. Never NULL. */
    const char *path;
} duralog_error_t;

/** Initialises a duralog_error_t. */
#define DURALOG_ERROR_INIT { sizeof(duralog_error_t), 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * The last error of this thread: that of the last call into this library, on this thread, that
 * failed. Calls that succeed leave it as it is, so ask right after a failure.
 *
 * Callable at any time, from any thread; each sees its own errors.
 *
 * out_error: filled; may be NULL if only the status is wanted.
 *
 * Returns the status of that call, DURALOG_OK if none has failed on this thread;
 * DURALOG_E_INVALID_ARGUMENT, with nothing filled, if struct_size of out_error is wrong. Does not
 * change the last error itself.
 *
 * Borrowed until the next call that fails on this thread: message and path.
 */
duralog_status_t duralog_last_error(duralog_error_t *out_error);

/* == Options =================================================================================== */

/**
 * In open_flags: nothing is written and no lock is taken; any number of readers, in any process,
 * work beside one writer. The log must exist.
 */
#define WAL_OPEN_READ_ONLY 1

/** In open_flags: a log that is not there is DURALOG_E_NOT_FOUND. Without this flag it is made. */
#define WAL_OPEN_MUST_EXIST 2

/** In open_flags: a log that is there is DURALOG_E_EXISTS. */
#define WAL_OPEN_MUST_CREATE 4

/**
 * In open_flags, with WAL_SYNC_INTERVAL or WAL_SYNC_MANUAL: batches of less than 256 KiB are written
 * by storing them into memory that shows the end of the segment, instead of by calls. What is stored
 * is written, and survives the death of the program. The memory is asked for in advance, by calls
 * that give errors; where it is not to be had (before Linux 5.14, or on a file system that writes
 * elsewhere what is overwritten), calls write as without the flag. What is left of the price: if the
 * file system fails under the program, or somebody cuts the file off, the program can end with a
 * signal (SIGBUS) instead of getting a status.
 */
#define WAL_OPEN_MAPPED_APPENDS 8

/**
 * In sync_mode: an append returns when its batch is durable, that is, when it survives a power
 * cut. The default.
 */
#define WAL_SYNC_EVERY 0

/**
 * In sync_mode: an append returns when its batch is written. The log syncs by itself after
 * sync_interval_batches batches or sync_interval_ms milliseconds, whichever comes first. A power
 * cut may take what was written since; the death of the program alone takes nothing.
 */
#define WAL_SYNC_INTERVAL 1

/**
 * In sync_mode: an append returns when its batch is written. Only wal_sync, wal_checkpoint,
 * rotation and wal_close make it durable.
 */
#define WAL_SYNC_MANUAL 2

/**
 * In recovery_policy: a tail torn by a crash is cut and reported; damage to acknowledged data is
 * refused for writing, and reading goes on up to it. The default.
 */
#define WAL_RECOVERY_DEFAULT 0

/**
 * In recovery_policy: any end that is not clean is refused with DURALOG_E_UNCLEAN. The whole last segment
 * is looked at for damage; otherwise, of one with more than 8 MiB in which the log was closed, only
 * the last frame is.
 */
#define WAL_RECOVERY_STRICT 1

/**
 * In recovery_policy, with WAL_OPEN_READ_ONLY only: cursors read everything that is undamaged and
 * mark what they pass over with a record of kind WAL_KIND_GAP. What can't be read is damaged too.
 */
#define WAL_RECOVERY_SALVAGE 2

/** Choices for wal_open. Start from WAL_OPTIONS_INIT; zero means the default in every field. */
typedef struct wal_options_t {
    /** Size of this struct; set by WAL_OPTIONS_INIT. */
    uint32_t struct_size;
    /** WAL_OPEN_* flags, combined by OR; 0: opened for writing, made if there is none. */
    uint32_t open_flags;
    /** One of WAL_SYNC_*. */
    uint32_t sync_mode;
    /** One of WAL_RECOVERY_*. */
    uint32_t recovery_policy;
    /**
     * Size in bytes at which a segment (a file of the log) is full and the next batch starts a
     * new one: 65,536 to 4,294,967,296; 0: 67,108,864. A batch never crosses segments, so one may
     * be larger by a batch.
     */
    uint64_t segment_bytes_max;
    /** With WAL_SYNC_INTERVAL: sync after this many batches; 0: 1000. */
    uint32_t sync_interval_batches;
    /**
     * With WAL_SYNC_INTERVAL: sync this many milliseconds after the first unsynced batch; 0: 100.
     */
    uint32_t sync_interval_ms;
    /**
     * A number of the application's own, kept in every segment. An existing log must have the
     * same, unless this is 0.
     */
    uint32_t application_id;
    /**
     * With WAL_SYNC_EVERY: how many groups of batches may be written to the disk at once, if
     * batches come from many threads or asynchronously: 1 to 14; 0: 1. They are acknowledged in the
     * order of the log. Each group then fills whole blocks of 4096 bytes, so the log takes more
     * space. Without effect where the file system has no direct, durable writes.
     */
    uint32_t groups_in_flight_max;
    /**
     * With WAL_SYNC_INTERVAL and WAL_SYNC_MANUAL: how many bytes of batches may wait in the process
     * before they are written: up to 8,388,608; 0: none. What waits is lost if the process dies,
     * and is not shown to cursors. When there is half as much a thread of the library writes it;
     * it is written at the latest when there is so much, when the interval ends, and before wal_sync,
     * wal_checkpoint, wal_truncate and wal_close do their work. If that write fails, the handle is
     * poisoned.
     */
    uint32_t buffer_bytes_max;
    /** 0. */
    uint32_t reserved;
} wal_options_t;

/** Initialises a wal_options_t. */
#define WAL_OPTIONS_INIT { sizeof(wal_options_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* == Opening and closing a log ================================================================= */

/**
 * An open log.
 *
 * Shared: any number of threads may use one handle at once; appends of several threads share
 * their syncs. Only wal_close must come when no other call with the handle runs or follows.
 */
typedef struct wal_t wal_t;

/**
 * Opens the log in the directory path; recovers it first if its last writer did not close it
 * (wal_recovery_report tells what was found). One handle at a time, of all processes, has a log
 * open for writing.
 *
 * path: directory of the log, in the bytes of the file system, with a NUL at its end.
 * options: may be NULL for the defaults.
 * out_wal: the handle, to be closed by wal_close.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_BUSY: another handle has it open for writing, the message says who;
 * DURALOG_E_NOT_FOUND, DURALOG_E_EXISTS: as open_flags asked;
 * DURALOG_E_NOT_A_LOG: the directory holds something else;
 * DURALOG_E_NEWER: written by a newer version;
 * DURALOG_E_CORRUPT: damaged, refused for writing; open it with WAL_OPEN_READ_ONLY to read up to
 * the damage, with WAL_RECOVERY_SALVAGE too to read beyond it, or repair it with wal_repair (damage
 * further back than opening looks is found when it is read: see WAL_RECOVERY_STRICT);
 * DURALOG_E_UNCLEAN: as WAL_RECOVERY_STRICT asked;
 * DURALOG_E_INVALID_ARGUMENT: also if application_id is not the log's;
 * DURALOG_E_FULL, DURALOG_E_IO.
 */
duralog_status_t wal_open(const char *path, const wal_options_t *options, wal_t **out_wal);

/**
 * Makes everything written durable, marks the log as cleanly closed, and releases the handle,
 * always: also if it reports an error. Cursors of the log are released on their own, before or
 * after. Not while another thread is in a call with the handle.
 *
 * wal: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_IO, DURALOG_E_FULL and others: this or an earlier write or sync failed; what was not
 * durable before may be lost, and the next wal_open decides.
 */
duralog_status_t wal_close(wal_t *wal);

/* == Appending ================================================================================= */

/**
 * In op of a record: the value is put under the key. What that means is the application's affair:
 * the log keeps both as they are.
 */
#define WAL_OP_PUT 1

/** In op of a record: the key is deleted. */
#define WAL_OP_DELETE 2

/**
 * In op of a record: from here to 255 the numbers are the application's own. All others are
 * reserved.
 */
#define WAL_OP_APPLICATION_MIN 128

/** In flags of the append functions: return when the batch is durable, whatever sync_mode says. */
#define WAL_APPEND_DURABLE 1

/** One record of a batch. */
typedef struct wal_op_t {
    /** NULL only if key_len is 0. */
    const uint8_t *key;
    /** NULL only if value_len is 0. */
    const uint8_t *value;
    /** Length of the key in bytes. Key and value together: at most 67,108,852. */
    size_t key_len;
    /** Length of the value in bytes. */
    size_t value_len;
    /** WAL_OP_PUT, WAL_OP_DELETE, or 128 to 255. */
    uint8_t op;
    /** 0. */
    uint8_t reserved[7];
} wal_op_t;

/**
 * Appends one record, atomically. It takes one sequence number.
 *
 * op: WAL_OP_PUT, WAL_OP_DELETE, or 128 to 255.
 * key, value: bytes, NULL only with length 0; together at most 67,108,852.
 * flags: 0 or WAL_APPEND_DURABLE.
 * out_seq: sequence number of the record; may be NULL.
 *
 * Returns DURALOG_OK: acknowledged, and durable unless sync_mode says otherwise;
 * DURALOG_E_TOO_LARGE, DURALOG_E_FULL: nothing was written, the handle stays usable;
 * DURALOG_E_INDETERMINATE: the write or sync failed, the record may be there after reopening or
 * not; the last error holds its batch id in lsn;
 * DURALOG_E_POISONED: an earlier write or sync had failed, nothing was written;
 * DURALOG_E_READ_ONLY.
 */
duralog_status_t wal_append(wal_t *wal,
                            uint8_t op,
                            const uint8_t *key,
                            size_t key_len,
                            const uint8_t *value,
                            size_t value_len,
                            uint32_t flags,
                            uint64_t *out_seq);

/**
 * Appends a batch: all its records or none, whatever happens. Its records take one sequence
 * number each, and its COMMIT takes the next one.
 *
 * ops: array of count records.
 * count: 1 or more.
 * flags: 0 or WAL_APPEND_DURABLE.
 * out_seq: sequence number of the COMMIT, one more than that of the last record; may be NULL.
 *
 * Returns as wal_append does, for the batch as a whole;
 * DURALOG_E_EMPTY_BATCH: count is 0.
 */
duralog_status_t wal_append_batch(wal_t *wal,
                                  const wal_op_t *ops,
                                  size_t count,
                                  uint32_t flags,
                                  uint64_t *out_seq);

/**
 * Appends a batch given in columns, for callers to whom an array of structs is expensive. The
 * same batch as wal_append_batch makes of the same records.
 *
 * count: number of records, 1 or more.
 * ops: op of each record; NULL: WAL_OP_PUT for all.
 * key_lens: length of each key; NULL: all keys are empty.
 * value_lens: length of each value.
 * bytes, bytes_len: key 0, value 0, key 1, value 1 and so on, without anything between;
 * bytes_len is the sum of all lengths.
 * flags, out_seq: as in wal_append_batch.
 *
 * Returns as wal_append_batch does;
 * DURALOG_E_INVALID_ARGUMENT: also if bytes_len is not the sum of all lengths.
 */
duralog_status_t wal_append_batch_packed(wal_t *wal,
                                         size_t count,
                                         const uint8_t *ops,
                                         const uint32_t *key_lens,
                                         const uint32_t *value_lens,
                                         const uint8_t *bytes,
                                         size_t bytes_len,
                                         uint32_t flags,
                                         uint64_t *out_seq);

/* == Appending without waiting ================================================================= */

/**
 * Hands a batch over and returns; the library writes it together with others, at most a few
 * threads per process doing so for all logs. Batches of one handle stand in the log in the order of
 * their tickets. What became of them wal_wait_ticket tells; until that is asked, a ticket takes
 * some memory.
 *
 * ops: array of count records; their bytes are copied before the call returns.
 * count: 1 or more. All records together, with 12 bytes for each: at most 4 MiB.
 * flags: 0 or WAL_APPEND_DURABLE.
 * out_ticket: number of the batch among those handed over with this handle, from 1.
 *
 * Returns DURALOG_OK: it is on its way, no more;
 * DURALOG_E_BUSY: nobody asked for the last 65,536 tickets;
 * DURALOG_E_TOO_LARGE, DURALOG_E_EMPTY_BATCH, DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
 */
duralog_status_t wal_append_batch_async(wal_t *wal,
                                        const wal_op_t *ops,
                                        size_t count,
                                        uint32_t flags,
                                        uint64_t *out_ticket);

/**
 * The same, with the batch in columns as in wal_append_batch_packed.
 *
 * count, ops, key_lens, value_lens, bytes, bytes_len: as in wal_append_batch_packed.
 * flags, out_ticket: as in wal_append_batch_async.
 *
 * Returns as wal_append_batch_async does.
 */
duralog_status_t wal_append_batch_packed_async(wal_t *wal,
                                               size_t count,
                                               const uint8_t *ops,
                                               const uint32_t *key_lens,
                                               const uint32_t *value_lens,
                                               const uint8_t *bytes,
                                               size_t bytes_len,
                                               uint32_t flags,
                                               uint64_t *out_ticket);

/**
 * Waits until all batches with tickets up to this one are settled, and answers for those that
 * nobody was told of before.
 *
 * ticket: given by wal_append_batch_async.
 * wait_ms_max: wait at most so many milliseconds; 0: not at all; negative: as long as it takes.
 * out_seq: sequence number of the COMMIT of this batch; may be NULL.
 * out_end_lsn: LSN at which it ends; may be NULL.
 *
 * Returns DURALOG_OK: all of them are acknowledged, and durable unless sync_mode says otherwise;
 * DURALOG_E_TIMEOUT: not all are settled; nothing was told;
 * DURALOG_E_FULL, DURALOG_E_INDETERMINATE, DURALOG_E_POISONED and others, as from wal_append_batch:
 * what came of the first batch that was not acknowledged. It counts as told with those before it;
 * call again for the others;
 * DURALOG_E_INVALID_ARGUMENT: also if there is no such ticket, or it was told.
 */
duralog_status_t wal_wait_ticket(wal_t *wal,
                                 uint64_t ticket,
                                 int64_t wait_ms_max,
                                 uint64_t *out_seq,
                                 uint64_t *out_end_lsn);

/**
 * Waits until everything below an LSN is durable. Makes nothing durable by itself: without
 * WAL_SYNC_EVERY that is up to other calls and to the interval.
 *
 * lsn: for example written_lsn of wal_stat, or out_end_lsn of wal_wait_ticket.
 * wait_ms_max: as in wal_wait_ticket.
 *
 * Returns DURALOG_OK: it is durable;
 * DURALOG_E_TIMEOUT: it is not;
 * DURALOG_E_POISONED: it is not, and will not be through this handle;
 * DURALOG_E_READ_ONLY: what a handle that only reads is shown is acknowledged, and it has no marks to
 * wait for.
 */
duralog_status_t wal_wait_durable(wal_t *wal,
                                  uint64_t lsn,
                                  int64_t wait_ms_max);

/**
 * A file descriptor for poll, select or epoll: readable when tickets were settled since this was
 * called last. Call it again, then wal_wait_ticket with wait_ms_max 0, then poll. Nothing but its
 * readiness is of use; it is closed with the log.
 *
 * out_fd: the file descriptor, each time the same.
 *
 * Returns DURALOG_OK; DURALOG_E_READ_ONLY, DURALOG_E_IO.
 */
duralog_status_t wal_ticket_fd(wal_t *wal, int32_t *out_fd);

/* == Sync, checkpoint, truncation ============================================================== */

/** From wal_batch_status: no batch with this id was committed. */
#define WAL_BATCH_ABSENT 0

/**
 * From wal_batch_status: the batch was committed, whole. Replay shows it, but for what was
 * truncated since.
 */
#define WAL_BATCH_COMMITTED 1

/** From wal_batch_status: the place was truncated and is gone; nothing can be said about it. */
#define WAL_BATCH_TRUNCATED 2

/**
 * Makes everything that was appended through this handle, by any thread, durable.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_IO: the sync failed; what was not durable before may be lost, and the handle is
 * poisoned;
 * DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
 */
duralog_status_t wal_sync(wal_t *wal);

/**
 * Commits a checkpoint, a mark that says: nothing before it is needed any more to rebuild the
 * application's state. Always durable on return. It takes one sequence number, and replay does not
 * show it. Records are forgotten only by wal_truncate.
 *
 * data, len: bytes of the application's own, such as where it saved its state; at most
 * 67,108,864. NULL only with length 0.
 * out_seq: sequence number of the checkpoint; may be NULL.
 *
 * Returns as wal_append does.
 */
duralog_status_t wal_checkpoint(wal_t *wal, const uint8_t *data, size_t len, uint64_t *out_seq);

/**
 * Data and number of the newest checkpoint.
 *
 * buffer, capacity: place for the data; NULL only with capacity 0.
 * out_len: length of the data. Written on DURALOG_E_BUFFER_TOO_SMALL too, which no output is but
 * this and those of duralog_spans_join and eventstore_state: it is the capacity needed.
 * out_seq: sequence number of the checkpoint; may be NULL.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: there is no checkpoint;
 * DURALOG_E_CORRUPT, DURALOG_E_IO: the place where it stands can't be read;
 * DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
 */
duralog_status_t wal_last_checkpoint(wal_t *wal,
                                     uint8_t *buffer,
                                     size_t capacity,
                                     size_t *out_len,
                                     uint64_t *out_seq);

/**
 * Forgets all records with a sequence number up to up_to_seq: they are never replayed again, also
 * not after a crash. Segments that lie wholly below are deleted or used again. Durable on return.
 *
 * up_to_seq: at most the last sequence number committed; a number that was truncated before is
 * nothing.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: up_to_seq is beyond the last sequence number;
 * DURALOG_E_CORRUPT: nothing is truncated, the first segment can't be used;
 * DURALOG_E_IO, DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
 */
duralog_status_t wal_truncate(wal_t *wal, uint64_t up_to_seq);

/**
 * What became of a batch: to be asked after reopening, for an append that returned
 * DURALOG_E_INDETERMINATE.
 *
 * batch_id: lsn of duralog_error_t, or batch_id of a record.
 * out_batch_status: one of WAL_BATCH_*.
 *
 * Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO: the place can't be read.
 */
duralog_status_t wal_batch_status(wal_t *wal, uint64_t batch_id, int32_t *out_batch_status);

/* == Replay ==================================================================================== */

/** In kind of a record: a record that an application appended. */
#define WAL_KIND_RECORD 1

/** In kind of a record, raw cursors only: the COMMIT of a batch. No key, no value. */
#define WAL_KIND_COMMIT 2

/** In kind of a record, raw cursors only: a checkpoint. The value is its data. */
#define WAL_KIND_CHECKPOINT 3

/**
 * In kind of a record, raw cursors only: the batch before it was given up while it was being
 * written. No key, no value.
 */
#define WAL_KIND_ABORT 4

/**
 * In kind of a record, raw cursors of read-only handles only: the last one, if the log has an
 * unclean end. batch_id is the LSN of the place where what can be read ends. No key, no value.
 */
#define WAL_KIND_TORN 5

/**
 * In kind of a record, with WAL_RECOVERY_SALVAGE only: something is damaged or missing here.
 * batch_id is the LSN where it begins, the value says what it is, in words (UTF-8, no NUL).
 */
#define WAL_KIND_GAP 6

/** One record as it is read. */
typedef struct wal_record_t {
    /** Its sequence number. */
    uint64_t seq;
    /** Number of its batch: the LSN where that begins, never used again for another. */
    uint64_t batch_id;
    /** When its batch was committed, by the wall clock, in nanoseconds since 1970-01-01 UTC. */
    uint64_t time_ns;
    /** Never NULL. */
    const uint8_t *key;
    /** Never NULL. */
    const uint8_t *value;
    /** Length of the key in bytes. */
    size_t key_len;
    /** Length of the value in bytes. */
    size_t value_len;
    /** One of WAL_KIND_*. */
    uint8_t kind;
    /** WAL_OP_PUT, WAL_OP_DELETE, or the application's; 0 if kind is not WAL_KIND_RECORD. */
    uint8_t op;
    /** 1: its batch is committed; 0, raw cursors only: it is not, and replay never shows it. */
    uint8_t committed;
    /** 0. */
    uint8_t reserved[5];
} wal_record_t;

/**
 * Called by wal_replay for each record, on the thread that called wal_replay. It may call any
 * function of this library but wal_close of the same log. It must return: neither longjmp nor an
 * exception may leave it.
 *
 * user_data: what was given to wal_replay.
 * record: borrowed until the callback returns.
 *
 * Returns 0 to go on, anything else to stop.
 */
typedef int (*wal_replay_callback_t)(void *user_data, const wal_record_t *record);

/**
 * Calls callback for every committed record after after_seq, in order. A batch is verified whole
 * before its first record is shown. Ends at what is acknowledged; records committed while it runs
 * are shown too.
 *
 * after_seq: 0 for all; to resume, the greatest sequence number seen.
 * callback: must not be NULL.
 * user_data: handed to the callback as it is.
 *
 * Returns DURALOG_OK: all were shown;
 * DURALOG_STOPPED: the callback asked to stop;
 * DURALOG_E_CORRUPT: all batches before the damage were shown; the last error names the place;
 * DURALOG_E_TRUNCATED: records not shown yet were truncated meanwhile;
 * DURALOG_E_IO.
 */
duralog_status_t wal_replay(wal_t *wal,
                            uint64_t after_seq,
                            wal_replay_callback_t callback,
                            void *user_data);

/* == Cursors =================================================================================== */

/**
 * In flags of wal_cursor_open: everything that is there in the order of the files: also COMMIT,
 * CHECKPOINT and ABORT marks, and records that are not committed.
 */
#define WAL_CURSOR_RAW 1

/**
 * In flags of wal_cursor_open: sealed segments are looked at in place, through a mapping, instead of
 * being read, which is faster where there is much to replay. Bytes are verified all the same, and
 * the file is kept as it is meanwhile.
 *
 * The price: where the disk can't be read there is no DURALOG_E_IO but a signal (SIGBUS), and so there
 * is if another program makes a file of the log shorter. The segment being written is read always; with
 * WAL_RECOVERY_SALVAGE, or where the file system has no mappings, all are.
 */
#define WAL_CURSOR_MAPPED 2

/**
 * A place in a log, from which it is read forward.
 *
 * Movable: one thread at a time, whichever it is. Several cursors of one log are independent of
 * each other.
 */
typedef struct wal_cursor_t wal_cursor_t;

/**
 * Many records at once, in columns: item i of every column belongs to record i of the page. Start
 * from WAL_PAGE_INIT.
 *
 * The key of record i is bytes[key_begin[i]] up to bytes[value_begin[i]], its value goes from
 * there up to bytes[value_end[i]], each without its end.
 */
typedef struct wal_page_t {
    /** Size of this struct; set by WAL_PAGE_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Records in the page: 1 or more. */
    size_t count;
    /** Sequence number of each. */
    const uint64_t *seq;
    /** Batch of each, as in wal_record_t. */
    const uint64_t *batch_id;
    /** Time of each, as in wal_record_t. */
    const uint64_t *time_ns;
    /** WAL_KIND_* of each. */
    const uint8_t *kind;
    /** Op of each, as in wal_record_t. */
    const uint8_t *op;
    /** 1 or 0 for each, as in wal_record_t. */
    const uint8_t *committed;
    /** Where the key of each begins in bytes. */
    const uint32_t *key_begin;
    /** Where the key of each ends and its value begins. */
    const uint32_t *value_begin;
    /** Where the value of each ends. */
    const uint32_t *value_end;
    /** Keys and values. What lies between them means nothing. */
    const uint8_t *bytes;
    /** Length of bytes. */
    size_t bytes_len;
} wal_page_t;

/** Initialises a wal_page_t. */
#define WAL_PAGE_INIT { sizeof(wal_page_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Opens a cursor on the records after after_seq.
 *
 * after_seq: 0 for all; to resume, the greatest sequence number seen.
 * flags: 0, or any of WAL_CURSOR_*.
 * out_cursor: the cursor, to be closed by wal_cursor_close.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_CORRUPT, DURALOG_E_IO: the place can't be read.
 */
duralog_status_t wal_cursor_open(wal_t *wal,
                                 uint64_t after_seq,
                                 uint32_t flags,
                                 wal_cursor_t **out_cursor);

/**
 * Takes the next record.
 *
 * out_record: the record.
 *
 * Returns DURALOG_OK;
 * DURALOG_END: there is none now; later calls may find more. Nobody is told when there is: who
 * follows a log, in this or another process, pauses and calls again;
 * DURALOG_E_CORRUPT: all batches before the damage were given; the last error names the place;
 * DURALOG_E_TRUNCATED: the next record was truncated meanwhile;
 * DURALOG_E_IO.
 *
 * Borrowed until the next call with this cursor: key and value.
 */
duralog_status_t wal_cursor_next(wal_cursor_t *cursor, wal_record_t *out_record);

/**
 * Takes the next records, many at once. Mixes freely with wal_cursor_next.
 *
 * count_max: records wanted at most, 1 or more. The page may hold fewer though more are there.
 * out_page: the page.
 *
 * Returns as wal_cursor_next does.
 *
 * Borrowed until the next call with this cursor: all columns and bytes.
 */
duralog_status_t wal_cursor_next_page(wal_cursor_t *cursor,
                                      size_t count_max,
                                      wal_page_t *out_page);

/**
 * Releases a cursor, before or after its log is closed.
 *
 * cursor: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t wal_cursor_close(wal_cursor_t *cursor);

/* == Parts of a page =========================================================================== */

/**
 * Copies parts of bytes, such as the values of a wal_page_t or the streams of an
 * eventstore_page_t, one behind the other. Programs in C have no need of it; it is for languages
 * that take many parts from one run of bytes faster than each from its place.
 *
 * bytes, bytes_len: what the parts are of.
 * begin, end, count: where each begins and ends.
 * separator: a byte, 0 to 255, to be put between two of them; -1: none.
 * buffer, capacity: place for the parts; NULL only with capacity 0. It must not overlap bytes.
 * bytes_len and a separator for each part are always enough for a column of a page.
 * out_lens: length of each part, place for count numbers; may be NULL.
 * out_len: length of all that was copied; written on DURALOG_E_BUFFER_TOO_SMALL too: it is the
 * capacity needed.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if a part does not lie within bytes;
 * DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
 *
 * Callable at any time, from any thread.
 */
duralog_status_t duralog_spans_join(const uint8_t *bytes,
                                    size_t bytes_len,
                                    const uint32_t *begin,
                                    const uint32_t *end,
                                    size_t count,
                                    int separator,
                                    uint8_t *buffer,
                                    size_t capacity,
                                    uint32_t *out_lens,
                                    size_t *out_len);

/* == Statistics ================================================================================ */

/**
 * Counters and marks of an open log. Start from WAL_STAT_INIT. Counters begin at 0 when the log is
 * opened.
 */
typedef struct wal_stat_t {
    /** Size of this struct; set by WAL_STAT_INIT. */
    uint32_t struct_size;
    /** The application's number. */
    uint32_t application_id;
    /** Identity of the log: random, the same as long as the log exists. */
    uint8_t log_id[16];
    /** Smallest segment. */
    uint64_t first_segment;
    /** Greatest segment: the one being written. */
    uint64_t last_segment;
    /** Segments there are. */
    uint64_t segment_count;
    /** Bytes of all segment files. */
    uint64_t file_bytes;
    /** Records up to this number are never replayed. */
    uint64_t truncated_seq;
    /** Greatest sequence number committed; 0 if none. */
    uint64_t last_seq;
    /** Every byte of the log below this LSN was written. */
    uint64_t written_lsn;
    /** Every byte of the log below this LSN survives a power cut. */
    uint64_t durable_lsn;
    /** Sequence number of the newest checkpoint; 0 if none. */
    uint64_t checkpoint_seq;
    /** Batches committed through this handle, single appends included. */
    uint64_t batch_count;
    /** Records committed through this handle. */
    uint64_t record_count;
    /** Groups written: batches that share one write and one sync. */
    uint64_t group_count;
    /** Syncs made for groups. */
    uint64_t sync_count;
    /** Bytes written for batches. */
    uint64_t written_bytes;
    /** Segments begun because the one before was full. */
    uint64_t rotation_count;
} wal_stat_t;

/** Initialises a wal_stat_t. */
#define WAL_STAT_INIT { sizeof(wal_stat_t), 0, {0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Counters and marks of the log, as they are now.
 *
 * out_stat: filled.
 *
 * Returns DURALOG_OK; DURALOG_E_IO.
 */
duralog_status_t wal_stat(wal_t *wal, wal_stat_t *out_stat);

/* == What opening found ======================================================================== */

/** In verdict: the log ends where its last writer left it. */
#define WAL_VERDICT_CLEAN_END 0

/** In verdict: a crash cut it. What was being written then is gone, nothing acknowledged is. */
#define WAL_VERDICT_TORN 1

/** In verdict: acknowledged data, or the structure, is damaged. */
#define WAL_VERDICT_CORRUPT 2

/** In verdict: a file could not be read; nothing can be said about the end. */
#define WAL_VERDICT_IO_ERROR 3

/** In control_state: both slots of the control file are valid. */
#define WAL_CONTROL_GOOD 0

/** In control_state: one slot is valid. */
#define WAL_CONTROL_ONE_SLOT 1

/** In control_state: the control file is missing or was lost. */
#define WAL_CONTROL_LOST 2

/** In evidence_source: the header of the last segment. */
#define WAL_EVIDENCE_SEGMENT_HEADER 0

/** In evidence_source: a frame that was accepted. */
#define WAL_EVIDENCE_FRAME 1

/** In evidence_source: a live frame behind the place where the walk stopped. */
#define WAL_EVIDENCE_FRAME_BEYOND 2

/** In evidence_source: the control file. */
#define WAL_EVIDENCE_CONTROL 3

/** In evidence_source: the page that processes share while the log is open. */
#define WAL_EVIDENCE_TAIL_PAGE 4

/**
 * What opening the log found and did (FORMAT.md sections 12 to 14). Start from
 * WAL_RECOVERY_REPORT_INIT.
 */
typedef struct wal_recovery_report_t {
    /** Size of this struct; set by WAL_RECOVERY_REPORT_INIT. */
    uint32_t struct_size;
    /** How the end of the log was judged: one of WAL_VERDICT_*. */
    int32_t verdict;
    /** What was found of the control file: one of WAL_CONTROL_*. */
    int32_t control_state;
    /** Where the greatest promise stood: one of WAL_EVIDENCE_*. */
    int32_t evidence_source;
    /** Segment in which reading stopped. */
    uint64_t segment;
    /** Offset of that place in the segment's file. */
    uint64_t offset;
    /** LSN of that place. */
    uint64_t lsn;
    /** LSN at which the log ends: what lies below is kept. */
    uint64_t end_lsn;
    /** Sequence number that the next record takes. */
    uint64_t next_seq;
    /** The greatest LSN below which everything was promised to be durable. */
    uint64_t evidence_lsn;
    /** Bytes behind the end that were left out. */
    uint64_t dropped_bytes;
    /** Records of an uncommitted batch that were left out. */
    uint64_t dropped_records;
    /** Committed bytes without evidence that were copied into a new segment. */
    uint64_t rescued_bytes;
    /** Smallest segment of the log. */
    uint64_t first_segment;
    /** Greatest segment of the log, as found. */
    uint64_t last_segment;
    /** Records up to this number are never replayed. */
    uint64_t truncated_seq;
    /** How long it took, in nanoseconds. */
    uint64_t duration_ns;
    /** 1: recovery wrote new files; 0: it did not. */
    uint32_t repaired;
    /** 0. */
    uint32_t reserved;
    /** Row of the decision table in FORMAT.md section 13, such as "Z", with a NUL. */
    char row[8];
    /** What was found, in words (UTF-8), with a NUL; empty if the end is clean. */
    char reason[512];
} wal_recovery_report_t;

/** Initialises a wal_recovery_report_t. */
#define WAL_RECOVERY_REPORT_INIT \
    { sizeof(wal_recovery_report_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0} }

/**
 * What wal_open found and did; the same as long as the handle is open.
 *
 * out_report: filled.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t wal_recovery_report(wal_t *wal, wal_recovery_report_t *out_report);

/* == Verifying and repairing =================================================================== */

/**
 * Called by wal_verify, wal_repair, eventstore_open and eventstore_verify_index now and then, on the thread
 * that called them.
 *
 * user_data: what was given.
 * done, total: segments walked, and how many there are; of event stores, bytes of the log.
 *
 * Returns 0 to go on, anything else to stop.
 */
typedef int (*wal_progress_callback_t)(void *user_data, uint64_t done, uint64_t total);

/**
 * Walks a whole log, every segment and every byte, and reports what it finds. Reads only, takes no
 * lock, needs no handle. Beside a live writer the end looks torn, because it is being written.
 *
 * path: directory of the log.
 * callback: told of the progress; may be NULL.
 * user_data: handed to the callback as it is.
 * out_report: filled; verdict says whether the log is in order.
 *
 * Returns DURALOG_OK: the report is there, whatever its verdict;
 * DURALOG_STOPPED: the callback asked to stop;
 * DURALOG_E_NOT_FOUND, DURALOG_E_NOT_A_LOG, DURALOG_E_NEWER, DURALOG_E_IO.
 *
 * Callable at any time.
 */
duralog_status_t wal_verify(const char *path,
                            wal_progress_callback_t callback,
                            void *user_data,
                            wal_recovery_report_t *out_report);

/**
 * Makes a log that is refused as corrupt usable again: cuts it at the last batch committed before
 * the damage. Everything from there on is dropped from the log, also what was acknowledged; before
 * that, every segment concerned is copied into a directory "dropped-N" inside the log's. The
 * sequence numbers of dropped records are given again. A log that is not corrupt is left alone.
 * What lies behind the damage can be read with WAL_RECOVERY_SALVAGE, before or after.
 *
 * path: directory of the log, which nobody may have open for writing.
 * callback: told of the progress; may be NULL.
 * user_data: handed to the callback as it is.
 * out_before: what the whole log looked like before; verdict WAL_VERDICT_CORRUPT if it was
 * repaired. May be NULL.
 * out_after: what it looks like now. May be NULL.
 *
 * Returns DURALOG_OK;
 * DURALOG_STOPPED: the callback asked to stop; the log is as it was, or repaired in part;
 * DURALOG_E_BUSY; DURALOG_E_CORRUPT: nothing of it can be used; DURALOG_E_NOT_FOUND,
 * DURALOG_E_NOT_A_LOG, DURALOG_E_NEWER, DURALOG_E_FULL, DURALOG_E_IO.
 *
 * Callable at any time.
 */
duralog_status_t wal_repair(const char *path,
                            wal_progress_callback_t callback,
                            void *user_data,
                            wal_recovery_report_t *out_before,
                            wal_recovery_report_t *out_after);

/* == Opening and closing an event store ======================================================== */

/**
 * In flags of eventstore_options_t: events and index are read through mappings of their files.
 * Scattered events come about twice as fast, and are verified in the same way. The price: where the
 * medium does not give what it holds, or somebody cuts off a file, the program ends with a signal
 * (SIGBUS) instead of an error.
 */
#define EVENTSTORE_MAPPED 1

/**
 * An open event store: events in streams, on a log of its own.
 *
 * Shared: any number of threads may use one handle at once; appends of several threads share
 * their syncs. Only eventstore_close must come when no other call with the handle runs or follows.
 */
typedef struct eventstore_t eventstore_t;

/**
 * Choices for eventstore_open. Start from EVENTSTORE_OPTIONS_INIT; zero means the default in every
 * field.
 */
typedef struct eventstore_options_t {
    /** Size of this struct; set by EVENTSTORE_OPTIONS_INIT. */
    uint32_t struct_size;
    /** EVENTSTORE_MAPPED or 0. */
    uint32_t flags;
    /**
     * Choices for the log underneath, which hold here too; NULL for the defaults. A store writes one
     * group of appends at a time, and at once: groups_in_flight_max and buffer_bytes_max change nothing.
     */
    const wal_options_t *wal;
    /**
     * Told, on the thread that opens, how many bytes of the log the index covers, and of how many:
     * worth it where index/ was deleted, so that the index is made from the log. NULL: nobody is
     * told.
     */
    wal_progress_callback_t progress;
    /** Handed to progress as it is. */
    void *progress_user_data;
} eventstore_options_t;

/** Initialises an eventstore_options_t. */
#define EVENTSTORE_OPTIONS_INIT { sizeof(eventstore_options_t), 0, 0, 0, 0 }

/** What is known of an open store. Start from EVENTSTORE_STAT_INIT. */
typedef struct eventstore_stat_t {
    /** Size of this struct; set by EVENTSTORE_STAT_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Identity of the log: random, the same as long as the store exists. */
    uint8_t log_id[16];
    /** Position of the last event; 0 if there is none. */
    uint64_t last_position;
    /** Files of the index. */
    uint64_t run_count;
    /**
     * Events that no file of the index covers yet: what is known of them is in memory, and is read
     * from the log when the store is opened next.
     */
    uint64_t memory_events;
    /** What is being done in the background, in keys: files of the index are made one. */
    uint64_t work_done;
    /** Of how many, at most; 0 while nothing is done. */
    uint64_t work_total;
} eventstore_stat_t;

/** Initialises an eventstore_stat_t. */
#define EVENTSTORE_STAT_INIT { sizeof(eventstore_stat_t), 0, {0}, 0, 0, 0, 0, 0 }

/**
 * Opens the event store in the directory path; recovers its log first if its last writer did not
 * close it. One handle at a time, of all processes, has a store open for writing.
 *
 * path: directory of the store, in the bytes of the file system, with a NUL at its end.
 * options: may be NULL for the defaults.
 * out_store: the handle, to be closed by eventstore_close.
 *
 * Returns as wal_open does;
 * DURALOG_STOPPED: progress asked to stop.
 */
duralog_status_t eventstore_open(const char *path,
                                 const eventstore_options_t *options,
                                 eventstore_t **out_store);

/**
 * Makes everything appended durable, marks the log as cleanly closed, and releases the handle,
 * always: also if it reports an error. Cursors and batches are released on their own, before or
 * after. Not while another thread is in a call with the handle.
 *
 * store: may be NULL, which is nothing.
 *
 * Returns as wal_close does.
 */
duralog_status_t eventstore_close(eventstore_t *store);

/**
 * Makes everything that was appended through this handle, by any thread, durable.
 *
 * Returns as wal_sync does.
 */
duralog_status_t eventstore_sync(eventstore_t *store);

/**
 * Position of the last event, which is how many events there are.
 *
 * out_position: the position; 0 if there is no event.
 *
 * Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO, read-only handles only.
 */
duralog_status_t eventstore_last_position(eventstore_t *store, uint64_t *out_position);

/**
 * What is known of the store, as it is now.
 *
 * out_stat: filled.
 *
 * Returns as eventstore_last_position does.
 */
duralog_status_t eventstore_stat(eventstore_t *store, eventstore_stat_t *out_stat);

/**
 * Counters and marks of the log underneath, as wal_stat gives them.
 *
 * out_stat: filled.
 *
 * Returns as wal_stat does.
 */
duralog_status_t eventstore_wal_stat(eventstore_t *store, wal_stat_t *out_stat);

/**
 * What eventstore_open found in the log and did, as wal_recovery_report gives it.
 *
 * out_report: filled.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_recovery_report(eventstore_t *store,
                                            wal_recovery_report_t *out_report);

/**
 * What became of a batch: to be asked after reopening, for an append that returned
 * DURALOG_E_INDETERMINATE.
 *
 * batch_id: lsn of duralog_error_t, or batch_id of a receipt.
 * out_batch_status: one of WAL_BATCH_*.
 *
 * Returns as wal_batch_status does.
 */
duralog_status_t eventstore_batch_status(eventstore_t *store,
                                         uint64_t batch_id,
                                         int32_t *out_batch_status);

/* == Queries over types and tags =============================================================== */

/**
 * Events by type and tag: those that match at least one of its items. An item names types, of
 * which an event must have one, and tags, all of which it must have. A query without items matches
 * every event.
 *
 *  eventstore_query_open(&query);
 *  eventstore_query_add_item(query);
 *  eventstore_query_add_type(query, "CourseDefined", 13);
 *  eventstore_query_add_type(query, "StudentSubscribed", 17);
 *  eventstore_query_add_tag(query, "course:c1", 9);
 *
 * Movable: one thread at a time, whichever it is. What uses a query keeps a copy.
 */
typedef struct eventstore_query_t eventstore_query_t;

/**
 * Makes a query without items.
 *
 * out_query: the query, to be closed by eventstore_query_close.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_query_open(eventstore_query_t **out_query);

/**
 * Begins an item; it must get a type or a tag before the query is used.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_query_add_item(eventstore_query_t *query);

/**
 * Adds a type to the last item.
 *
 * event_type, event_type_len: 1 to 255 bytes.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if the query has no item.
 */
duralog_status_t eventstore_query_add_type(eventstore_query_t *query,
                                           const char *event_type,
                                           size_t event_type_len);

/**
 * Adds a tag to the last item.
 *
 * tag, tag_len: 1 to 255 bytes.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if the query has no item.
 */
duralog_status_t eventstore_query_add_tag(eventstore_query_t *query,
                                          const char *tag,
                                          size_t tag_len);

/**
 * Releases a query.
 *
 * query: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_query_close(eventstore_query_t *query);

/* == Building an append ======================================================================== */

/** In expected of eventstore_append_expect: whatever version the stream has. */
#define EVENTSTORE_EXPECT_ANY (-1)

/** In expected of eventstore_append_expect: the stream has at least one event. */
#define EVENTSTORE_EXPECT_EXISTS (-2)

/** In expected of eventstore_append_expect: there is no such stream. */
#define EVENTSTORE_EXPECT_NONE 0

/** In flags of eventstore_append_save_position: the position may go back. */
#define EVENTSTORE_POSITION_RESET 1

/**
 * A batch that is being built: events for any number of streams, what must hold before, and what
 * is committed with them. eventstore_append appends all of it or nothing, as often as it is called:
 * the batch stays as it is until it is cleared.
 *
 * Movable: one thread at a time, whichever it is. It belongs to no store, and keeps copies of all
 * that it is given.
 */
typedef struct eventstore_append_t eventstore_append_t;

/**
 * An event to be appended. Start from EVENTSTORE_NEW_EVENT_INIT; zero means that it says nothing
 * of the kind. Only stream and event_type must be given.
 */
typedef struct eventstore_new_event_t {
    /** Size of this struct; set by EVENTSTORE_NEW_EVENT_INIT. */
    uint32_t struct_size;
    /** 1: occurred_ns is given; 0: it is not. */
    uint32_t has_occurred;
    /** Its stream: 1 to 1024 bytes of UTF-8. */
    const char *stream;
    /** Length of stream. */
    size_t stream_len;
    /** What happened: 1 to 255 bytes of UTF-8. */
    const char *event_type;
    /** Length of event_type. */
    size_t event_type_len;
    /** The event, in bytes of the application's own. */
    const uint8_t *data;
    /** Length of data. */
    size_t data_len;
    /** About the event, in bytes of the application's own. */
    const uint8_t *metadata;
    /** Length of metadata. */
    size_t metadata_len;
    /** Media type of the data: up to 255 bytes of UTF-8. */
    const char *content_type;
    /** Length of content_type. */
    size_t content_type_len;
    /**
     * Array of tag_count tags, each of 1 to 255 bytes of UTF-8. They are a set: order and
     * repetition mean nothing.
     */
    const char *const *tags;
    /** Array of their lengths. */
    const size_t *tag_lens;
    /** How many: at most 64. */
    size_t tag_count;
    /**
     * Id of its own: 16 bytes, not all zero, that no other event has; NULL: it gets one made of
     * the log's id and its position.
     */
    const uint8_t *id;
    /** What it belongs to: 16 bytes, or NULL. */
    const uint8_t *correlation_id;
    /** What it follows from: 16 bytes, or NULL. */
    const uint8_t *causation_id;
    /** The application's number for the form of the data. */
    uint64_t schema_version;
    /**
     * When it occurred, in nanoseconds since 1970-01-01 UTC. When it was recorded is known anyway.
     */
    int64_t occurred_ns;
} eventstore_new_event_t;

/** Initialises an eventstore_new_event_t. */
#define EVENTSTORE_NEW_EVENT_INIT \
    { sizeof(eventstore_new_event_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Makes an empty batch.
 *
 * out_batch: the batch, to be closed by eventstore_append_close.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_open(eventstore_append_t **out_batch);

/**
 * Empties a batch, so that it can be built anew; what it has of memory stays for that.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_clear(eventstore_append_t *batch);

/**
 * Releases a batch.
 *
 * batch: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_close(eventstore_append_t *batch);

/**
 * Adds an event. Events get their positions in the order in which they are added.
 *
 * event: the event, all of which is copied.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_TOO_LARGE: data and metadata have more than 67,108,852 bytes together. The event as a whole
 * is judged by eventstore_append: its record, as FORMAT.md section 20.2 has it with 10 bytes each for
 * position and stream version, has at most 67,108,852 bytes of key and value. At most 18,078 of them
 * are not data and metadata.
 */
duralog_status_t eventstore_append_add_event(eventstore_append_t *batch,
                                             const eventstore_new_event_t *event);

/**
 * Demands that a stream has a certain version before the append. Each stream at most once; it need
 * not be one that is appended to.
 *
 * stream, stream_len: 1 to 1024 bytes.
 * expected: EVENTSTORE_EXPECT_ANY, EVENTSTORE_EXPECT_EXISTS, EVENTSTORE_EXPECT_NONE, or exactly
 * this version.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_expect(eventstore_append_t *batch,
                                          const char *stream,
                                          size_t stream_len,
                                          int64_t expected);

/**
 * Demands that no event behind a position matches a query: nothing of the kind was appended since
 * the caller looked.
 *
 * query: copied, and may be closed or changed at once.
 * after: events up to this position do not count; 0: all count.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_add_condition(eventstore_append_t *batch,
                                                 eventstore_query_t *query,
                                                 uint64_t after);

/**
 * Saves with the batch up to where somebody has read; eventstore_saved_position tells it. A
 * position that is not beyond the saved one is a conflict. Each name at most once.
 *
 * name, name_len: 1 to 255 bytes.
 * position: the last position dealt with.
 * flags: 0, or EVENTSTORE_POSITION_RESET.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_save_position(eventstore_append_t *batch,
                                                 const char *name,
                                                 size_t name_len,
                                                 uint64_t position,
                                                 uint32_t flags);

/**
 * Puts with the batch a value of the application's own under a key; eventstore_state tells it.
 * Each key at most once.
 *
 * key, key_len: 1 to 1024 bytes.
 * value, value_len: at most 1,048,576 bytes.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_put_state(eventstore_append_t *batch,
                                             const uint8_t *key,
                                             size_t key_len,
                                             const uint8_t *value,
                                             size_t value_len);

/**
 * Deletes with the batch the value under a key; a key without a value is nothing. Each key at most
 * once.
 *
 * key, key_len: 1 to 1024 bytes.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_delete_state(eventstore_append_t *batch,
                                                const uint8_t *key,
                                                size_t key_len);

/**
 * Gives the batch a key by which the store knows it again: appended twice, the second time gives
 * the receipt of the first. Events that all have ids of their own need no key.
 *
 * key, key_len: 1 to 255 bytes; 0: no key.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_set_idempotency_key(eventstore_append_t *batch,
                                                       const uint8_t *key,
                                                       size_t key_len);

/* == Adding many events at once ================================================================ */

/**
 * Events in columns: item i of every column belongs to event i. Start from
 * EVENTSTORE_COLUMNS_INIT; a column that is NULL says nothing of any event, and only stream_lens
 * and event_type_lens must be given. What each field means, and its limits, is as in
 * eventstore_new_event_t.
 *
 * The bytes stand column after column, without anything between: all streams, all event types, all
 * content types, all tags, all data, all metadata.
 */
typedef struct eventstore_columns_t {
    /** Size of this struct; set by EVENTSTORE_COLUMNS_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** How many events. */
    size_t count;
    /** Length of each stream. */
    const uint32_t *stream_lens;
    /** Length of each event type. */
    const uint32_t *event_type_lens;
    /** Length of each content type. */
    const uint32_t *content_type_lens;
    /** How many tags each event has. */
    const uint32_t *tag_counts;
    /**
     * Length of each tag: those of the first event, those of the second, and so on. As many as
     * tag_counts sums up to.
     */
    const uint32_t *tag_lens;
    /** Length of each event's data. */
    const uint32_t *data_lens;
    /** Length of each event's metadata. */
    const uint32_t *metadata_lens;
    /** 16 bytes for each event; all zero: it has no id of its own. */
    const uint8_t *ids;
    /** 16 bytes for each event; all zero: none. */
    const uint8_t *correlation_ids;
    /** 16 bytes for each event; all zero: none. */
    const uint8_t *causation_ids;
    /** Schema version of each. */
    const uint64_t *schema_versions;
    /** When each occurred. */
    const int64_t *occurred_ns;
    /**
     * 1 for each event whose occurred_ns is given, 0 for the others; NULL: all of them, if
     * occurred_ns is not NULL.
     */
    const uint8_t *has_occurred;
    /** Texts and bytes, in the order said above. */
    const uint8_t *bytes;
    /** Length of bytes: the sum of all lengths. */
    size_t bytes_len;
} eventstore_columns_t;

/** Initialises an eventstore_columns_t. */
#define EVENTSTORE_COLUMNS_INIT \
    { sizeof(eventstore_columns_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Adds events, as eventstore_append_add_event does with one after the other; all of them or, if
 * one is refused, none.
 *
 * columns: the events, all of which are copied.
 *
 * Returns as eventstore_append_add_event does, the message names the event;
 * DURALOG_E_INVALID_ARGUMENT: also if bytes_len is not the sum of all lengths.
 */
duralog_status_t eventstore_append_add_columns(eventstore_append_t *batch,
                                               const eventstore_columns_t *columns);

/* == Appending events ========================================================================== */

/** In flags of eventstore_append: return when the batch is durable, whatever sync_mode says. */
#define EVENTSTORE_APPEND_DURABLE 1

/** In kind of a conflict: a stream has not the version that eventstore_append_expect demanded. */
#define EVENTSTORE_CONFLICT_STREAM 1

/** In kind of a conflict: an event matches the query of a condition. */
#define EVENTSTORE_CONFLICT_CONDITION 2

/** In kind of a conflict: a position to be saved is not beyond the saved one. */
#define EVENTSTORE_CONFLICT_POSITION 3

/** What an append came to. Start from EVENTSTORE_RECEIPT_INIT. */
typedef struct eventstore_receipt_t {
    /** Size of this struct; set by EVENTSTORE_RECEIPT_INIT. */
    uint32_t struct_size;
    /**
     * 1: the batch had been appended before, nothing was written, and the receipt is that of the
     * first time; 0: it was appended now.
     */
    uint32_t duplicate;
    /** Position of its first event; 0 if it has none. */
    uint64_t first_position;
    /** Position of its last event; 0 if it has none. */
    uint64_t last_position;
    /**
     * When it was recorded, in nanoseconds since 1970-01-01 UTC; of a duplicate, the first time.
     */
    uint64_t time_ns;
    /** Number of its batch: the LSN where that begins; 0 for a duplicate. */
    uint64_t batch_id;
    /** Streams appended to: see eventstore_append_stream_versions. */
    size_t stream_count;
} eventstore_receipt_t;

/** Initialises an eventstore_receipt_t. */
#define EVENTSTORE_RECEIPT_INIT { sizeof(eventstore_receipt_t), 0, 0, 0, 0, 0, 0 }

/**
 * Streams and their versions, in columns: item i of every column belongs to stream i. Start from
 * EVENTSTORE_STREAM_VERSIONS_INIT.
 *
 * The name of stream i is bytes[stream_begin[i]] up to bytes[stream_end[i]], without its end.
 */
typedef struct eventstore_stream_versions_t {
    /** Size of this struct; set by EVENTSTORE_STREAM_VERSIONS_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** How many streams. */
    size_t count;
    /** Version of each. */
    const uint64_t *stream_version;
    /** Where the name of each begins in bytes. */
    const uint32_t *stream_begin;
    /** Where the name of each ends. */
    const uint32_t *stream_end;
    /** The names, in UTF-8. */
    const char *bytes;
    /** Length of bytes. */
    size_t bytes_len;
} eventstore_stream_versions_t;

/** Initialises an eventstore_stream_versions_t. */
#define EVENTSTORE_STREAM_VERSIONS_INIT \
    { sizeof(eventstore_stream_versions_t), 0, 0, 0, 0, 0, 0, 0 }

/** A precondition that did not hold. Start from EVENTSTORE_CONFLICT_INIT. */
typedef struct eventstore_conflict_t {
    /** Size of this struct; set by EVENTSTORE_CONFLICT_INIT. */
    uint32_t struct_size;
    /** What it was about: one of EVENTSTORE_CONFLICT_*. */
    uint32_t kind;
    /**
     * Which one, counted from 0 in the order they were added: of the expectations, of the
     * conditions, or of the saved positions and states together.
     */
    size_t index;
    /**
     * Name of the stream or of the saved position, empty for a condition. Never NULL, without a
     * NUL at its end.
     */
    const char *name;
    /** Length of name. */
    size_t name_len;
    /**
     * Of a stream, what was expected. Of a condition, the position behind which nothing was to
     * match. Of a saved position, the one given.
     */
    int64_t expected;
    /**
     * Of a stream, its version. Of a condition, the first position that matches. Of a saved
     * position, the one that is saved.
     */
    uint64_t actual;
} eventstore_conflict_t;

/** Initialises an eventstore_conflict_t. */
#define EVENTSTORE_CONFLICT_INIT { sizeof(eventstore_conflict_t), 0, 0, 0, 0, 0, 0 }

/**
 * Appends a batch: all of it, or nothing if any of its preconditions does not hold. They are judged
 * together, against the store as it is before the batch. Whatever happens, the batch stays as it
 * is.
 *
 * A batch that was appended before gives the receipt of that time and writes nothing: one whose
 * events all have ids and were the events of one batch, in this order, or one with an idempotency
 * key and the contents that it had with that key. Events are known by their ids alone: what else they say now is not compared.
 *
 * flags: 0 or EVENTSTORE_APPEND_DURABLE.
 * out_receipt: filled; may be NULL.
 *
 * Returns DURALOG_OK: acknowledged, and durable unless sync_mode says otherwise;
 * DURALOG_E_CONFLICT: eventstore_append_conflict tells all that did not hold;
 * DURALOG_E_DUPLICATE: some of its events are in the store already, see
 * eventstore_append_known_ids, or its idempotency key belongs to another batch;
 * DURALOG_E_EMPTY_BATCH: it has neither an event nor anything to save;
 * DURALOG_E_INVALID_ARGUMENT: also if two events have one id, or one name occurs twice where the
 * functions that add it forbid it, or an item of a query is empty;
 * DURALOG_E_TOO_LARGE (see eventstore_append_add_event), DURALOG_E_FULL: nothing was written, the
 * handle stays usable;
 * DURALOG_E_INDETERMINATE, DURALOG_E_POISONED, DURALOG_E_READ_ONLY: as from wal_append. What is
 * indeterminate may be appended again after reopening if all its events have ids, or it has an
 * idempotency key.
 */
duralog_status_t eventstore_append(eventstore_t *store,
                                   eventstore_append_t *batch,
                                   uint32_t flags,
                                   eventstore_receipt_t *out_receipt);

/**
 * A stream that the last append of this batch appended to, and its version after that.
 *
 * index: below stream_count of the receipt; streams are in the order of first mention.
 * out_stream, out_stream_len: its name, without a NUL at its end.
 * out_stream_version: its version.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if there is none of this index, or the append failed.
 *
 * Borrowed until the batch is appended again, cleared or closed: the name.
 */
duralog_status_t eventstore_append_stream_version(eventstore_append_t *batch,
                                                  size_t index,
                                                  const char **out_stream,
                                                  size_t *out_stream_len,
                                                  uint64_t *out_stream_version);

/**
 * All streams that the last append of this batch appended to, and their versions after that: what
 * eventstore_append_stream_version tells one by one.
 *
 * out_versions: filled; in the order of first mention; none if that append failed.
 *
 * Returns DURALOG_OK.
 *
 * Borrowed until the batch is used again: all columns and bytes.
 */
duralog_status_t eventstore_append_stream_versions(eventstore_append_t *batch,
                                                   eventstore_stream_versions_t *out_versions);

/**
 * How many preconditions did not hold in the last append of this batch.
 *
 * out_count: the number; 0 unless that append returned DURALOG_E_CONFLICT.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_append_conflict_count(eventstore_append_t *batch, size_t *out_count);

/**
 * A precondition that did not hold in the last append of this batch.
 *
 * index: below the number that eventstore_append_conflict_count gives.
 * out_conflict: filled.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if there is none of this index.
 *
 * Borrowed until the batch is appended again, cleared or closed: the name.
 */
duralog_status_t eventstore_append_conflict(eventstore_append_t *batch,
                                            size_t index,
                                            eventstore_conflict_t *out_conflict);

/**
 * Ids of events of this batch that were in the store already when it was last appended.
 *
 * out_ids: 16 bytes for each, one after the other.
 * out_count: how many; 0 unless that append returned DURALOG_E_DUPLICATE, and 0 if it did because
 * of the idempotency key.
 *
 * Returns DURALOG_OK.
 *
 * Borrowed until the batch is appended again, cleared or closed: the ids.
 */
duralog_status_t eventstore_append_known_ids(eventstore_append_t *batch,
                                             const uint8_t **out_ids,
                                             size_t *out_count);

/* == Reading events ============================================================================ */

/** In selection of eventstore_read_t: all events. */
#define EVENTSTORE_READ_ALL 0

/** In selection of eventstore_read_t: the events of the stream called name. */
#define EVENTSTORE_READ_STREAM 1

/**
 * In selection of eventstore_read_t: the events of all streams whose name begins with name, up to
 * the first '-' in it.
 */
#define EVENTSTORE_READ_CATEGORY 2

/** In selection of eventstore_read_t: the events that match query. */
#define EVENTSTORE_READ_QUERY 3

/** In direction of eventstore_read_t: the oldest first. The default. */
#define EVENTSTORE_READ_FORWARD 0

/** In direction of eventstore_read_t: the newest first. */
#define EVENTSTORE_READ_BACKWARD 1

/**
 * In flags of an event: its id is its own, given when it was appended. Without this flag it was
 * made of the log's id and the event's position.
 */
#define EVENTSTORE_EVENT_OWN_ID 1

/** In flags of an event: it is the first of its batch. */
#define EVENTSTORE_EVENT_FIRST 2

/** In flags of an event: it is the last of its batch. */
#define EVENTSTORE_EVENT_LAST 4

/** In flags of an event: it has metadata. */
#define EVENTSTORE_EVENT_METADATA 8

/** In flags of an event: it says when it occurred. Without this flag occurred_ns is 0. */
#define EVENTSTORE_EVENT_OCCURRED 16

/** In flags of an event: it has a correlation id. Without this flag that is all zero. */
#define EVENTSTORE_EVENT_CORRELATION 32

/** In flags of an event: it has a causation id. Without this flag that is all zero. */
#define EVENTSTORE_EVENT_CAUSATION 64

/**
 * A place in a reading of a store.
 *
 * Movable: one thread at a time, whichever it is. Several cursors of one store are independent of
 * each other. Its reading goes on when the store was closed, and shows what was there by then.
 */
typedef struct eventstore_cursor_t eventstore_cursor_t;

/**
 * What to read. Start from EVENTSTORE_READ_INIT; zero means: all events, forward, from the first
 * to the last.
 */
typedef struct eventstore_read_t {
    /** Size of this struct; set by EVENTSTORE_READ_INIT. */
    uint32_t struct_size;
    /** Which events: one of EVENTSTORE_READ_ALL, _STREAM, _CATEGORY, _QUERY. */
    uint32_t selection;
    /** EVENTSTORE_READ_FORWARD or EVENTSTORE_READ_BACKWARD. */
    uint32_t direction;
    /** 0. */
    uint32_t reserved;
    /** Name of the stream or category; NULL with the other selections. */
    const char *name;
    /** Length of name; 0 with the other selections. */
    size_t name_len;
    /** With EVENTSTORE_READ_QUERY: the query, of which a copy is kept; else NULL. */
    eventstore_query_t *query;
    /**
     * The first to read: of a stream, its stream version; else its position, or if that is none
     * of the selection, the next one. 0: the first that there is, or backward the last.
     */
    uint64_t first;
    /** The last to read, likewise; 0: the last that there is, or backward the first. */
    uint64_t last;
    /** At most so many events; 0: no limit. */
    uint64_t limit;
} eventstore_read_t;

/** Initialises an eventstore_read_t. */
#define EVENTSTORE_READ_INIT { sizeof(eventstore_read_t), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * One event as it is read. Start from EVENTSTORE_EVENT_INIT. Texts are UTF-8 without a NUL at
 * their end; pointers are never NULL.
 */
typedef struct eventstore_event_t {
    /** Size of this struct; set by EVENTSTORE_EVENT_INIT. */
    uint32_t struct_size;
    /** EVENTSTORE_EVENT_* flags, combined by OR. */
    uint32_t flags;
    /** Its number in the store, from 1, without gaps. */
    uint64_t position;
    /** Its number in its stream, from 1, without gaps. */
    uint64_t stream_version;
    /**
     * When it was recorded, in nanoseconds since 1970-01-01 UTC; never less than that of an event
     * before it.
     */
    uint64_t time_ns;
    /** The application's number for the form of the data; 0: none was given. */
    uint64_t schema_version;
    /** When it occurred, in nanoseconds since 1970-01-01 UTC; see EVENTSTORE_EVENT_OCCURRED. */
    int64_t occurred_ns;
    /** Its id. */
    uint8_t id[16];
    /** What it belongs to; see EVENTSTORE_EVENT_CORRELATION. */
    uint8_t correlation_id[16];
    /** What it follows from; see EVENTSTORE_EVENT_CAUSATION. */
    uint8_t causation_id[16];
    /** Its stream. */
    const char *stream;
    /** Length of stream. */
    size_t stream_len;
    /** What happened. */
    const char *event_type;
    /** Length of event_type. */
    size_t event_type_len;
    /** Media type of the data; empty: none was given. */
    const char *content_type;
    /** Length of content_type. */
    size_t content_type_len;
    /** Its tags in ascending order, to be taken apart by eventstore_tag_next. */
    const uint8_t *tags;
    /** Length of tags. */
    size_t tags_len;
    /** How many tags. */
    size_t tag_count;
    /** About the event. */
    const uint8_t *metadata;
    /** Length of metadata. */
    size_t metadata_len;
    /** The event. */
    const uint8_t *data;
    /** Length of data. */
    size_t data_len;
} eventstore_event_t;

/** Initialises an eventstore_event_t. */
#define EVENTSTORE_EVENT_INIT \
    { sizeof(eventstore_event_t), 0, 0, 0, 0, 0, 0, {0}, {0}, {0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Many events at once, in columns: item i of every column belongs to event i of the page, and
 * means what the field of eventstore_event_t of that name means. Start from EVENTSTORE_PAGE_INIT.
 *
 * The stream of event i is bytes[stream_begin[i]] up to bytes[stream_end[i]], without its end; and
 * so on for the other pairs of columns.
 */
typedef struct eventstore_page_t {
    /** Size of this struct; set by EVENTSTORE_PAGE_INIT. */
    uint32_t struct_size;
    /**
     * 1: nothing stood behind these events when they were read, so that a program that wants no more
     * than what is there need not ask again. 0: there may be more; and always in pages of a
     * subscription.
     */
    uint32_t at_end;
    /** Events in the page: 1 or more. */
    size_t count;
    /** Position of each. */
    const uint64_t *position;
    /** Stream version of each. */
    const uint64_t *stream_version;
    /** When each was recorded. */
    const uint64_t *time_ns;
    /** Schema version of each. */
    const uint64_t *schema_version;
    /** When each occurred. */
    const int64_t *occurred_ns;
    /** EVENTSTORE_EVENT_* flags of each. */
    const uint8_t *flags;
    /** How many tags each has. */
    const uint8_t *tag_count;
    /** 16 bytes for each. */
    const uint8_t *id;
    /** 16 bytes for each. */
    const uint8_t *correlation_id;
    /** 16 bytes for each. */
    const uint8_t *causation_id;
    /** Where the stream of each begins in bytes. */
    const uint32_t *stream_begin;
    /** Where it ends. */
    const uint32_t *stream_end;
    /** Where the event type of each begins. */
    const uint32_t *event_type_begin;
    /** Where it ends. */
    const uint32_t *event_type_end;
    /** Where the content type of each begins. */
    const uint32_t *content_type_begin;
    /** Where it ends. */
    const uint32_t *content_type_end;
    /**
     * Where the tags of each begin: each tag with its length before it, which is one byte below
     * 128, else two: 128 + length % 128 and length / 128 (see eventstore_tag_next).
     */
    const uint32_t *tags_begin;
    /** Where they end. */
    const uint32_t *tags_end;
    /** Where the metadata of each begins. */
    const uint32_t *metadata_begin;
    /** Where it ends. */
    const uint32_t *metadata_end;
    /** Where the data of each begins. */
    const uint32_t *data_begin;
    /** Where it ends. */
    const uint32_t *data_end;
    /** Texts and bytes. What lies between them means nothing. */
    const uint8_t *bytes;
    /** Length of bytes. */
    size_t bytes_len;
} eventstore_page_t;

/** Initialises an eventstore_page_t. */
#define EVENTSTORE_PAGE_INIT \
    { sizeof(eventstore_page_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Begins to read.
 *
 * read: what to read; NULL: all events.
 * out_cursor: the cursor, to be closed by eventstore_cursor_close.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_read(eventstore_t *store,
                                 const eventstore_read_t *read,
                                 eventstore_cursor_t **out_cursor);

/**
 * Takes the next event.
 *
 * out_event: the event.
 *
 * Returns DURALOG_OK;
 * DURALOG_END: there is none now; forward, later calls may find more;
 * DURALOG_E_CORRUPT: all events before the damage were given; the last error names the place;
 * DURALOG_E_IO.
 *
 * Borrowed until the next call with this cursor: texts and bytes.
 */
duralog_status_t eventstore_cursor_next(eventstore_cursor_t *cursor,
                                        eventstore_event_t *out_event);

/**
 * Takes the next events, many at once. Mixes freely with eventstore_cursor_next.
 *
 * count_max: events wanted at most, 1 or more. The page may hold fewer though more are there: it ends with the
 * 4,096th, or with the event that fills its first MiB.
 * out_page: the page.
 *
 * Returns as eventstore_cursor_next does.
 *
 * Borrowed until the next call with this cursor: all columns and bytes.
 */
duralog_status_t eventstore_cursor_next_page(eventstore_cursor_t *cursor,
                                             size_t count_max,
                                             eventstore_page_t *out_page);

/**
 * Looks up the event at a position. The reading of the cursor stays where it is, whatever it
 * selects.
 *
 * out_event: the event.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: there is no event at this position;
 * DURALOG_E_CLOSED: the store was closed;
 * DURALOG_E_CORRUPT, DURALOG_E_IO.
 *
 * Borrowed until the next call with this cursor: texts and bytes.
 */
duralog_status_t eventstore_cursor_event_at(eventstore_cursor_t *cursor,
                                            uint64_t position,
                                            eventstore_event_t *out_event);

/**
 * Looks up the event with an id, its own or the one that was made for it. The reading of the
 * cursor stays where it is, whatever it selects.
 *
 * id: 16 bytes.
 * out_event: the event.
 *
 * Returns as eventstore_cursor_event_at does.
 *
 * Borrowed until the next call with this cursor: texts and bytes.
 */
duralog_status_t eventstore_cursor_event_by_id(eventstore_cursor_t *cursor,
                                               const uint8_t *id,
                                               eventstore_event_t *out_event);

/**
 * Releases a cursor, before or after its store is closed.
 *
 * cursor: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_cursor_close(eventstore_cursor_t *cursor);

/**
 * Takes the next of the tags of an event.
 *
 *  size_t at = 0;
 *  while (eventstore_tag_next(event.tags, event.tags_len, &at, &tag, &tag_len) == DURALOG_OK)
 *      printf("%.*s\n", (int)tag_len, tag);
 *
 * tags, tags_len: from an event or a page.
 * at: where to go on; 0 before the first, and moved behind the tag that is taken.
 * out_tag, out_tag_len: the tag, without a NUL at its end; it points into tags.
 *
 * Returns DURALOG_OK;
 * DURALOG_END: there is none any more;
 * DURALOG_E_INVALID_ARGUMENT: also if there are no tags of an event at this place.
 *
 * Callable at any time, from any thread.
 */
duralog_status_t eventstore_tag_next(const uint8_t *tags,
                                     size_t tags_len,
                                     size_t *at,
                                     const char **out_tag,
                                     size_t *out_tag_len);

/* == A page of events in one run of bytes ====================================================== */

/** In flags of eventstore_page_pack: the streams too. */
#define EVENTSTORE_PACK_STREAMS 1

/** In flags of eventstore_page_pack: the rest too. */
#define EVENTSTORE_PACK_REST 2

/**
 * Copies a page into one run of bytes: every column, and the texts and bytes of each column one behind the
 * other. Programs in C have no need of it; it is for languages that take many parts from one run of bytes
 * faster than each from its place.
 *
 * page: as it was filled; what it points to must still be there.
 * flags: EVENTSTORE_PACK_STREAMS, EVENTSTORE_PACK_REST, combined by OR, or 0.
 * buffer, capacity: place for all of it; NULL only with capacity 0. It must not overlap what the page points
 * to.
 * out_len: how much of the place was used; on DURALOG_E_BUFFER_TOO_SMALL a capacity that is enough.
 *
 * The place begins with eight numbers of 64 bits, as this machine has them: how many events; how many
 * different event types, or 0 if there are more than 256 or so; the length of each event's data, or 2^64 - 1 if
 * not all are of one; and where the rest, the streams, the event types and the data begin, and where the data
 * ends. Then come, each a column without gaps:
 *
 *  position, stream_version          8 bytes each
 *  length of data                    4
 *  which of the event types          1, from 0; 0 if they were too many
 *  the rest, or nothing:
 *      time_ns, schema_version, occurred_ns                8 each
 *      id, correlation_id, causation_id                    16 each
 *      length of content type, of tags, of metadata        4 each
 *      flags, tag_count                                    1 each
 *      content types, tags, metadata                       without anything between
 *  streams, or nothing               with a NUL between two
 *  event types                       likewise: each of the different ones once, in the order in which they
 *                                    come first; that of every event if they were too many
 *  data                              without anything between
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if a part does not lie within the bytes of the page;
 * DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
 *
 * Callable at any time, from any thread.
 */
duralog_status_t eventstore_page_pack(const eventstore_page_t *page,
                                      uint32_t flags,
                                      uint8_t *buffer,
                                      size_t capacity,
                                      size_t *out_len);

/* == Following events ========================================================================== */

/** In from of eventstore_subscribe: with the first event that there is. */
#define EVENTSTORE_FROM_BEGINNING 0

/** In from of eventstore_subscribe: with the first event that is appended from now on. */
#define EVENTSTORE_FROM_END 1

/** In from of eventstore_subscribe: with the first event behind a position. */
#define EVENTSTORE_FROM_AFTER 2

/**
 * In from of eventstore_subscribe: behind the position saved under the subscription's name; with
 * the first event if none was.
 */
#define EVENTSTORE_FROM_SAVED 3

/**
 * Follows a store: every event of a selection, in order, none left out and none twice.
 *
 * An event is given once its append is acknowledged. With WAL_SYNC_EVERY it is durable then. With
 * WAL_SYNC_INTERVAL and WAL_SYNC_MANUAL it need not be: a power cut, or a sync that fails, may take
 * back events that were given, and their positions go to others that are appended afterwards. What
 * was saved behind them by eventstore_subscription_ack goes with them.
 *
 * Movable: one thread at a time, whichever it is; but eventstore_subscription_cancel is callable
 * at any time. A slow subscription costs who appends nothing.
 */
typedef struct eventstore_subscription_t eventstore_subscription_t;

/**
 * Subscribes.
 *
 * read: which events: its selection, name and query; direction, first, last and limit must be 0.
 * NULL: all events.
 * from: where to begin, one of EVENTSTORE_FROM_*.
 * after: with EVENTSTORE_FROM_AFTER a position, also if events of a stream are read; else 0.
 * saved_name, saved_name_len: name of the position that eventstore_subscription_ack saves, 1 to
 * 255 bytes; NULL and 0: there is nothing to save, and EVENTSTORE_FROM_SAVED is not allowed.
 * out_subscription: the subscription, to be closed by eventstore_subscription_close.
 *
 * Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO.
 */
duralog_status_t eventstore_subscribe(eventstore_t *store,
                                      const eventstore_read_t *read,
                                      uint32_t from,
                                      uint64_t after,
                                      const char *saved_name,
                                      size_t saved_name_len,
                                      eventstore_subscription_t **out_subscription);

/**
 * Takes the next events, and waits if there are none yet.
 *
 * count_max: events wanted at most, 1 or more. The page may hold fewer though more are there: it ends with the
 * 4,096th, or with the event that fills its first MiB.
 * wait_ms_max: wait at most so many milliseconds; 0: not at all; negative: as long as it takes.
 * out_page: the page.
 *
 * Returns DURALOG_OK;
 * DURALOG_END: none came in time;
 * DURALOG_STOPPED: eventstore_subscription_cancel was called;
 * DURALOG_E_CLOSED: the store was closed, and everything in it was given;
 * DURALOG_E_CORRUPT: all events before the damage were given; the last error names the place;
 * DURALOG_E_IO.
 *
 * Borrowed until the next call with this subscription but cancel: all columns and bytes.
 */
duralog_status_t eventstore_subscription_next_page(eventstore_subscription_t *subscription,
                                                   size_t count_max,
                                                   int64_t wait_ms_max,
                                                   eventstore_page_t *out_page);

/**
 * Saves how far the events have been dealt with: a subscription with this name that begins with
 * EVENTSTORE_FROM_SAVED begins behind it. Durable as the sync mode of the log says. A position that
 * is not beyond the one saved changes nothing.
 *
 * position: of the last event dealt with; at most what eventstore_subscription_position says.
 *
 * Returns as eventstore_append does;
 * DURALOG_E_INVALID_ARGUMENT: also if the subscription has no name, or has not got to the position.
 */
duralog_status_t eventstore_subscription_ack(eventstore_subscription_t *subscription,
                                             uint64_t position);

/**
 * Position up to which every event of the selection was given: where the subscription began, then
 * that of the last event of each page; and with DURALOG_END, that of the last event of the store.
 *
 * out_position: the position.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_subscription_position(eventstore_subscription_t *subscription,
                                                  uint64_t *out_position);

/**
 * A file descriptor for poll, select or epoll: readable while there may be something to take, or
 * the store was closed. Call eventstore_subscription_next_page with wait_ms_max 0 until it returns
 * DURALOG_END, then poll. Nothing but its readiness is of use; it is closed with the subscription.
 *
 * out_fd: the file descriptor, each time the same.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_UNSUPPORTED: the store was opened for reading only, and is not told of appends: take
 * pages with a time to wait instead;
 * DURALOG_E_IO.
 */
duralog_status_t eventstore_subscription_fd(eventstore_subscription_t *subscription,
                                            int32_t *out_fd);

/**
 * Ends a subscription: eventstore_subscription_next_page returns DURALOG_STOPPED, at once if it
 * waits, and from now on. To be closed all the same.
 *
 * Returns DURALOG_OK.
 *
 * Callable at any time until the subscription is closed, from any thread.
 */
duralog_status_t eventstore_subscription_cancel(eventstore_subscription_t *subscription);

/**
 * Releases a subscription, before or after its store is closed.
 *
 * subscription: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_subscription_close(eventstore_subscription_t *subscription);

/* == Streams, saved positions, state =========================================================== */

/** What is known of one stream. Start from EVENTSTORE_STREAM_INFO_INIT. */
typedef struct eventstore_stream_info_t {
    /** Size of this struct; set by EVENTSTORE_STREAM_INFO_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Its version: the number of its last event. */
    uint64_t stream_version;
    /** Position of its first event. */
    uint64_t first_position;
    /** Position of its last event. */
    uint64_t last_position;
} eventstore_stream_info_t;

/** Initialises an eventstore_stream_info_t. */
#define EVENTSTORE_STREAM_INFO_INIT { sizeof(eventstore_stream_info_t), 0, 0, 0, 0 }

/**
 * What is known of a stream.
 *
 * stream, stream_len: its name, at most 1024 bytes.
 * out_info: filled.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: there is no such stream: its version is 0;
 * DURALOG_E_CORRUPT, DURALOG_E_IO.
 */
duralog_status_t eventstore_stream_info(eventstore_t *store,
                                        const char *stream,
                                        size_t stream_len,
                                        eventstore_stream_info_t *out_info);

/**
 * A position that was saved by eventstore_append_save_position.
 *
 * name, name_len: 1 to 255 bytes.
 * out_position: the position.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: none was saved under this name;
 * DURALOG_E_CORRUPT, DURALOG_E_IO.
 */
duralog_status_t eventstore_saved_position(eventstore_t *store,
                                           const char *name,
                                           size_t name_len,
                                           uint64_t *out_position);

/**
 * The value under a key, put there by eventstore_append_put_state.
 *
 * key, key_len: 1 to 1024 bytes.
 * buffer, capacity: place for the value; NULL only with capacity 0.
 * out_len: length of the value. Written on DURALOG_E_BUFFER_TOO_SMALL too: it is the capacity
 * needed.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: there is no value under this key;
 * DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written;
 * DURALOG_E_CORRUPT, DURALOG_E_IO.
 */
duralog_status_t eventstore_state(eventstore_t *store,
                                  const uint8_t *key,
                                  size_t key_len,
                                  uint8_t *buffer,
                                  size_t capacity,
                                  size_t *out_len);

/* == Names ===================================================================================== */

/** In kind of eventstore_names_open: streams. */
#define EVENTSTORE_NAMES_STREAM 1

/**
 * In kind of eventstore_names_open: categories: what stands in stream names before the first '-'.
 */
#define EVENTSTORE_NAMES_CATEGORY 2

/** In kind of eventstore_names_open: event types. */
#define EVENTSTORE_NAMES_TYPE 3

/** In kind of eventstore_names_open: tags. */
#define EVENTSTORE_NAMES_TAG 4

/**
 * Names in a store, in ascending order of their bytes.
 *
 * Movable: one thread at a time, whichever it is.
 */
typedef struct eventstore_names_t eventstore_names_t;

/**
 * Many names at once, in columns: item i of every column belongs to name i of the page. Start from
 * EVENTSTORE_NAMES_PAGE_INIT.
 *
 * Name i is bytes[name_begin[i]] up to bytes[name_end[i]], without its end.
 */
typedef struct eventstore_names_page_t {
    /** Size of this struct; set by EVENTSTORE_NAMES_PAGE_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Names in the page: 1 or more. */
    size_t count;
    /** How many events bear each. */
    const uint64_t *event_count;
    /** Position of the first of them. */
    const uint64_t *first_position;
    /** Position of the last of them. */
    const uint64_t *last_position;
    /** Where each name begins in bytes. */
    const uint32_t *name_begin;
    /** Where each name ends. */
    const uint32_t *name_end;
    /** The names, in UTF-8. */
    const char *bytes;
    /** Length of bytes. */
    size_t bytes_len;
} eventstore_names_page_t;

/** Initialises an eventstore_names_page_t. */
#define EVENTSTORE_NAMES_PAGE_INIT { sizeof(eventstore_names_page_t), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Begins to list names.
 *
 * kind: one of EVENTSTORE_NAMES_*.
 * prefix, prefix_len: only names that begin with this; at most 1024 bytes, 0: all names.
 * out_names: the list, to be closed by eventstore_names_close.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_names_open(eventstore_t *store,
                                       uint32_t kind,
                                       const char *prefix,
                                       size_t prefix_len,
                                       eventstore_names_t **out_names);

/**
 * Takes the next names, many at once.
 *
 * count_max: names wanted at most, 1 or more. The page may hold fewer though more are there.
 * out_page: the page.
 *
 * Returns DURALOG_OK;
 * DURALOG_END: there is none now behind those that were given;
 * DURALOG_E_CLOSED: the store was closed;
 * DURALOG_E_CORRUPT, DURALOG_E_IO.
 *
 * Borrowed until the next call with this list: all columns and bytes.
 */
duralog_status_t eventstore_names_next_page(eventstore_names_t *names,
                                            size_t count_max,
                                            eventstore_names_page_t *out_page);

/**
 * Releases a list of names, before or after its store is closed.
 *
 * names: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_names_close(eventstore_names_t *names);

/* == Snapshots ================================================================================= */

/**
 * A snapshot that was loaded.
 *
 * Movable: one thread at a time, whichever it is. It stays usable when its store was closed.
 */
typedef struct eventstore_snapshot_t eventstore_snapshot_t;

/** What a snapshot holds. Start from EVENTSTORE_SNAPSHOT_INFO_INIT. */
typedef struct eventstore_snapshot_info_t {
    /** Size of this struct; set by EVENTSTORE_SNAPSHOT_INFO_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** The version it is of. */
    uint64_t version;
    /** Position up to which events are in it. */
    uint64_t position;
    /** The state. */
    const uint8_t *data;
    /** Length of data. */
    size_t data_len;
} eventstore_snapshot_info_t;

/** Initialises an eventstore_snapshot_info_t. */
#define EVENTSTORE_SNAPSHOT_INFO_INIT { sizeof(eventstore_snapshot_info_t), 0, 0, 0, 0, 0 }

/**
 * Saves a state, in a file of its own below the store. Of a key are kept: this one and the newest
 * others of its fingerprint, four in all; and of all other fingerprints together the four of the
 * greatest versions. A snapshot is derived from events: losing one costs time and nothing else.
 *
 * key, key_len: whose state, 1 to 1024 bytes.
 * version: stream version, or any number that only grows, of which it is true.
 * position: position up to which events are in it.
 * fingerprint, fingerprint_len: by which version of the program it was made, at most 255 bytes;
 * NULL only with 0.
 * data, data_len: the state, at most 1 GiB; NULL only with 0.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_INVALID_ARGUMENT: also if there is no event at position, which is not 0;
 * DURALOG_E_TOO_LARGE, DURALOG_E_FULL, DURALOG_E_IO, DURALOG_E_READ_ONLY: it was not saved; the
 * store is not concerned.
 */
duralog_status_t eventstore_snapshot_save(eventstore_t *store,
                                          const uint8_t *key,
                                          size_t key_len,
                                          uint64_t version,
                                          uint64_t position,
                                          const uint8_t *fingerprint,
                                          size_t fingerprint_len,
                                          const uint8_t *data,
                                          size_t data_len);

/**
 * Loads the newest snapshot of a key, at or before a version, that was made with a fingerprint.
 * One that is damaged, can't be read, or is of events that the store does not have any more, is
 * passed over.
 *
 * key, key_len: 1 to 1024 bytes.
 * version_max: UINT64_MAX for the newest.
 * fingerprint, fingerprint_len: as when it was saved.
 * out_snapshot: the snapshot, to be closed by eventstore_snapshot_close.
 *
 * Returns DURALOG_OK;
 * DURALOG_E_NOT_FOUND: there is none;
 * DURALOG_E_CORRUPT, DURALOG_E_IO: of the store, not of a snapshot.
 */
duralog_status_t eventstore_snapshot_load(eventstore_t *store,
                                          const uint8_t *key,
                                          size_t key_len,
                                          uint64_t version_max,
                                          const uint8_t *fingerprint,
                                          size_t fingerprint_len,
                                          eventstore_snapshot_t **out_snapshot);

/**
 * What a snapshot holds.
 *
 * out_info: filled.
 *
 * Returns DURALOG_OK.
 *
 * Borrowed until the snapshot is closed: data.
 */
duralog_status_t eventstore_snapshot_info(eventstore_snapshot_t *snapshot,
                                          eventstore_snapshot_info_t *out_info);

/**
 * Releases a snapshot that was loaded. It stays saved.
 *
 * snapshot: may be NULL, which is nothing.
 *
 * Returns DURALOG_OK.
 */
duralog_status_t eventstore_snapshot_close(eventstore_snapshot_t *snapshot);

/**
 * Deletes all snapshots of a key, of every fingerprint.
 *
 * key, key_len: 1 to 1024 bytes.
 *
 * Returns DURALOG_OK, also if there are none; DURALOG_E_IO, DURALOG_E_READ_ONLY.
 */
duralog_status_t eventstore_snapshot_delete(eventstore_t *store,
                                            const uint8_t *key,
                                            size_t key_len);

/* == Looking through the index ================================================================= */

/** What looking through the index found. Start from EVENTSTORE_INDEX_REPORT_INIT. */
typedef struct eventstore_index_report_t {
    /** Size of this struct; set by EVENTSTORE_INDEX_REPORT_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Files of the index that were looked through. */
    uint64_t run_count;
    /**
     * Those of them that are damaged, or say something else than the log; 0: the index is in order.
     */
    uint64_t damaged_run_count;
    /** Events that were compared. What no file covers is not among these. */
    uint64_t event_count;
    /**
     * Keys that were compared (names, ids, saved positions, state), each once for each file that has it.
     */
    uint64_t key_count;
    /**
     * Of the first damage: the block of the file, of 4096 bytes; 0: the first one, or the file as a whole.
     */
    uint64_t damaged_block;
    /** Name of the first damaged file, in index/, with a NUL; empty if there is none. */
    char damaged_file[64];
    /**
     * What was expected there and what was found, in words (UTF-8), with a NUL; empty if there is none.
     */
    char reason[512];
} eventstore_index_report_t;

/** Initialises an eventstore_index_report_t. */
#define EVENTSTORE_INDEX_REPORT_INIT \
    { sizeof(eventstore_index_report_t), 0, 0, 0, 0, 0, 0, {0}, {0} }

/**
 * Looks through all files of the index, every block, and compares all that they say with the log, read
 * anew: where each event stands; the positions of each stream, category, type and tag, and the stream
 * versions; ids, idempotency keys, saved positions and state. What the index has in memory and in no
 * file (memory_events of eventstore_stat_t) is not compared: this handle read it from the log, or
 * appended it.
 *
 * Nothing is changed. A damaged file is made again by the first question that meets the damage; one
 * that only says something else than the log is not met so. Deleting index/ while no program has the
 * store open lets all of it be made anew. Beside appends and readers it is of the files that there are when
 * it begins. It takes as long as reading the log, and at most about 32 MiB of memory.
 *
 * callback: told how many bytes of the log were compared, and of how many; may be NULL.
 * user_data: handed to the callback as it is.
 * out_report: filled; damaged_run_count says whether the index is in order.
 *
 * Returns DURALOG_OK: the report is there, whatever it says;
 * DURALOG_STOPPED: the callback asked to stop;
 * DURALOG_E_CORRUPT, DURALOG_E_IO: the log could not be read.
 */
duralog_status_t eventstore_verify_index(eventstore_t *store,
                                         wal_progress_callback_t callback,
                                         void *user_data,
                                         eventstore_index_report_t *out_report);

/* == Lines of JSON ============================================================================= */

/* Only in a library that was built with the feature ndjson: `make FEATURES=ndjson`. What
   pkg-config says of such a library defines the macro; else define it yourself. */
#if defined(DURALOG_NDJSON)

/**
 * Choices for eventstore_import_ndjson. Start from EVENTSTORE_IMPORT_OPTIONS_INIT; zero means the
 * default in every field.
 */
typedef struct eventstore_import_options_t {
    /** Size of this struct; set by EVENTSTORE_IMPORT_OPTIONS_INIT. */
    uint32_t struct_size;
    /** Lines that are appended together, in one batch, or fewer where they are long; 0: 1,000. */
    uint32_t batch_lines;
    /** File descriptor to read from, if no path is given: 0 is standard input. It stays open. */
    int32_t fd;
    /** 0. */
    uint32_t reserved;
    /**
     * 16 bytes: the namespace of the ids of those event_ids that are no UUIDs. Sources that have
     * the same event_ids for different events need different ones. NULL: the library's own.
     */
    const uint8_t *id_namespace;
} eventstore_import_options_t;

/** Initialises an eventstore_import_options_t. */
#define EVENTSTORE_IMPORT_OPTIONS_INIT { sizeof(eventstore_import_options_t), 0, 0, 0, 0 }

/**
 * Called by eventstore_import_ndjson after each batch, and by eventstore_export_ndjson after each
 * 1,000 events and at its end, on the thread that called them.
 *
 * user_data: what was given.
 * bytes: how many of the file were read, or written.
 * events: how many events were dealt with.
 * total: of an import, the size of the file in bytes, 0 if that is not known; of an export, how
 * many events it will have written.
 *
 * Returns 0 to go on, anything else to stop.
 */
typedef int (*eventstore_ndjson_callback_t)(void *user_data,
                                            uint64_t bytes,
                                            uint64_t events,
                                            uint64_t total);

/** What an import did. Start from EVENTSTORE_IMPORT_REPORT_INIT. */
typedef struct eventstore_import_report_t {
    /** Size of this struct; set by EVENTSTORE_IMPORT_REPORT_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Lines that were read. */
    uint64_t line_count;
    /** Events that were appended. */
    uint64_t imported_count;
    /** Events that were there already. */
    uint64_t known_count;
    /** Number of a torn last line, which was left out, counted from 1; 0 if there is none. */
    uint64_t torn_line;
    /** Number of the line that can't be imported, counted from 1; 0 if there is none. */
    uint64_t bad_line;
} eventstore_import_report_t;

/** Initialises an eventstore_import_report_t. */
#define EVENTSTORE_IMPORT_REPORT_INIT { sizeof(eventstore_import_report_t), 0, 0, 0, 0, 0, 0 }

/**
 * Choices for eventstore_export_ndjson. Start from EVENTSTORE_EXPORT_OPTIONS_INIT; zero means the
 * default in every field.
 */
typedef struct eventstore_export_options_t {
    /** Size of this struct; set by EVENTSTORE_EXPORT_OPTIONS_INIT. */
    uint32_t struct_size;
    /**
     * 1: go on with the export that is there, which began at the same position; begin it if there
     * is none. Only with a path.
     */
    uint32_t resume;
    /** Position of the first event; 0: the first there is. */
    uint64_t from_position;
    /** File descriptor to write to, if no path is given: 1 is standard output. It stays open. */
    int32_t fd;
    /** 0. */
    uint32_t reserved;
} eventstore_export_options_t;

/** Initialises an eventstore_export_options_t. */
#define EVENTSTORE_EXPORT_OPTIONS_INIT { sizeof(eventstore_export_options_t), 0, 0, 0, 0 }

/** What an export did. Start from EVENTSTORE_EXPORT_REPORT_INIT. */
typedef struct eventstore_export_report_t {
    /** Size of this struct; set by EVENTSTORE_EXPORT_REPORT_INIT. */
    uint32_t struct_size;
    /** 0. */
    uint32_t reserved;
    /** Lines that were written. */
    uint64_t event_count;
    /** Position of the last event that is in the file; one below the first if there is none. */
    uint64_t last_position;
} eventstore_export_report_t;

/** Initialises an eventstore_export_report_t. */
#define EVENTSTORE_EXPORT_REPORT_INIT { sizeof(eventstore_export_report_t), 0, 0, 0 }

/**
 * Appends the events of a file that has a JSON object in each line:
 *
 *   {"event_id": "e-1", "stream_id": "case-891", "event_type": "Opened", "data": {"by": "R26"},
 *    "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}
 *
 * event_id is a text or an integer: a UUID is the id of the event as it is, anything else gives
 * the UUIDv5 of its JSON text. data becomes the data, byte for byte, timestamp the time when it
 * occurred. What an event has no place for, also fields that are not named here, stands in front
 * of its metadata under the key "duralog.ndjson". data and metadata may be absent; tags,
 * schema_version, content_type, correlation_id, causation_id, and data_base64 and metadata_base64
 * for bytes that are no JSON, may be there too.
 *
 * Lines are appended in batches, each whole or not at all. An import that was stopped, in whatever
 * way, is repeated as it was: what is there already is compared with its line and left alone. The
 * first line that can't be imported ends the import; all batches before that of the line are in,
 * and nothing of its own. A last line without a newline that is no whole JSON object is torn: it is
 * reported and left out. A line has at most 100,663,296 bytes and 1,000 fields, and is nested at
 * most 500 levels deep.
 *
 * path: the file, in the bytes of the file system, with a NUL at its end; NULL: fd of the options.
 * options: may be NULL for the defaults.
 * callback: told of the progress; may be NULL.
 * user_data: handed to the callback as it is.
 * out_report: what was done; may be NULL. Written whatever is returned but
 * DURALOG_E_INVALID_ARGUMENT: as far as it came.
 *
 * Returns DURALOG_OK: all of it is in, but for a torn last line;
 * DURALOG_STOPPED: the callback asked to stop, behind a batch;
 * DURALOG_E_BAD_LINE: a line is damaged, or says something else than the event with its id that is
 * there: bad_line is its number, the message says why;
 * DURALOG_E_NOT_FOUND, DURALOG_E_IO: also if the file can't be read; else what eventstore_append
 * returns.
 */
duralog_status_t eventstore_import_ndjson(eventstore_t *store,
                                          const char *path,
                                          const eventstore_import_options_t *options,
                                          eventstore_ndjson_callback_t callback,
                                          void *user_data,
                                          eventstore_import_report_t *out_report);

/**
 * Writes all events that are there now, from a position on, to a file: a line each, as
 * eventstore_import_ndjson reads them. What was imported comes back with the same content, line by
 * line. What does not say when it occurred has the time when it was recorded.
 *
 * Positions have no gaps, so line n is event n from the first one on. That is how an export is
 * resumed that was stopped, in whatever way: behind the whole lines that are there, after the torn
 * one was cut. The file is not synced.
 *
 * path: the file, in the bytes of the file system, with a NUL at its end; nothing may be there
 * unless it is to be resumed. NULL: fd of the options.
 * options: may be NULL for the defaults.
 * callback: told of the progress; may be NULL.
 * user_data: handed to the callback as it is.
 * out_report: what was done; may be NULL. Written with DURALOG_STOPPED too.
 *
 * Returns DURALOG_OK;
 * DURALOG_STOPPED: the callback asked to stop; all events that it was told of are in the file;
 * DURALOG_E_EXISTS: there is something at path, and resume is 0;
 * DURALOG_E_INVALID_ARGUMENT: also if the file to be resumed is no export of this store that began
 * at this position; it was left as it is;
 * DURALOG_E_NOT_FOUND, DURALOG_E_FULL, DURALOG_E_IO: the file can't be opened or written; part of
 * it may be there, and can be resumed;
 * DURALOG_E_CLOSED, DURALOG_E_CORRUPT: the store can't be read.
 */
duralog_status_t eventstore_export_ndjson(eventstore_t *store,
                                          const char *path,
                                          const eventstore_export_options_t *options,
                                          eventstore_ndjson_callback_t callback,
                                          void *user_data,
                                          eventstore_export_report_t *out_report);

#endif /* DURALOG_NDJSON */

#ifdef __cplusplus
}
#endif

#endif /* DURALOG_H */
