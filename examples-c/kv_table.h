/*
 * The memory of kv_store.c: pairs of short texts in an array, sorted by key. There is nothing about
 * logs in here; an LSM tree has a skip list in this place.
 */

#ifndef KV_TABLE_H
#define KV_TABLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 63 }; /* bytes of a key or value */

typedef struct pair_t {
    char key[TEXT_MAX + 1];
    char value[TEXT_MAX + 1];
} pair_t;

typedef struct table_t {
    pair_t *pairs;
    size_t count;
} table_t;

/* Index of the first pair whose key is not smaller. */
static size_t table_place(const table_t *table, const char *key)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(table->pairs[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The pair with this key, or NULL. Valid until the next change. */
static pair_t *table_find(const table_t *table, const char *key)
{
    const size_t place = table_place(table, key);
    if (place == table->count || strcmp(table->pairs[place].key, key) != 0)
        return NULL;
    return &table->pairs[place];
}

/* Puts a pair in its place, over one with the same key. Returns 0, or 1: no memory. */
static int table_put(table_t *table, const pair_t *pair)
{
    pair_t *found = table_find(table, pair->key);
    if (found == NULL) {
        const size_t place = table_place(table, pair->key);
        pair_t *grown = realloc(table->pairs, (table->count + 1) * sizeof *grown);
        if (grown == NULL)
            return 1;
        memmove(grown + place + 1, grown + place, (table->count - place) * sizeof *grown);
        table->pairs = grown;
        table->count++;
        found = grown + place;
    }
    *found = *pair;
    return 0;
}

static void table_delete(table_t *table, const char *key)
{
    pair_t *found = table_find(table, key);
    if (found != NULL) {
        const pair_t *end = table->pairs + table->count--;
        memmove(found, found + 1, (size_t)(end - found - 1) * sizeof *found);
    }
}

/* Puts the pair, or deletes its key. Returns as table_put. */
static int table_change(table_t *table, int is_put, const pair_t *pair)
{
    if (is_put)
        return table_put(table, pair);
    table_delete(table, pair->key);
    return 0;
}

/* Prints the pair with this key; all, if it is empty. */
static void table_print(const table_t *table, const char *key)
{
    for (size_t i = 0; i < table->count; i++)
        if (key[0] == 0 || strcmp(table->pairs[i].key, key) == 0)
            printf("%s = %s\n", table->pairs[i].key, table->pairs[i].value);
}

static void table_free(table_t *table)
{
    free(table->pairs);
    table->pairs = NULL;
    table->count = 0;
}

/* Both return 0, or 1: not all of it could be written or read. */
static int table_write(const table_t *table, FILE *file)
{
    return fwrite(table->pairs, sizeof(pair_t), table->count, file) != table->count
           || fflush(file) != 0;
}

static int table_read(table_t *table, FILE *file)
{
    pair_t pair;
    while (fread(&pair, sizeof pair, 1, file) == 1)
        if (table_put(table, &pair) != 0)
            return 1;
    return !feof(file);
}

#endif
