// SPDX-License-Identifier: Apache-2.0
// ledger.c - one page for each generation that was bulk loaded since the program began. There are
// few: a page is made when a build's first record is acknowledged.

#include "coordinator/ledger.h"

#include <assert.h>
#include <stddef.h>

#include "proto/base/mem.h"

struct page {
    struct page *next;
    uint32_t generation;
    uint64_t buffered[NODES_MAX]; // acknowledged and not committed
    uint64_t losses;
};

struct ledger {
    struct page *first;
};

static struct page *find(const struct ledger *ledger, uint32_t generation)
{
    struct page *page = ledger->first;
    while (page && page->generation != generation)
        page = page->next;
    return page;
}

struct ledger *ledger_create(void)
{
    return mem_alloc(sizeof(struct ledger));
}

void ledger_destroy(struct ledger **ledger)
{
    assert(ledger);

    if (!*ledger)
        return;
    while ((*ledger)->first) {
        struct page *page = (*ledger)->first;
        (*ledger)->first = page->next;
        mem_free(page);
    }
    mem_free(*ledger);
    *ledger = NULL;
}

void ledger_add(struct ledger *ledger, uint32_t generation, uint32_t node, uint64_t records)
{
    assert(ledger && node < NODES_MAX);

    struct page *page = find(ledger, generation);
    if (!page) {
        page = mem_alloc(sizeof(*page));
        page->generation = generation;
        page->next = ledger->first;
        ledger->first = page;
    }
    page->buffered[node] += records;
}

void ledger_commit(struct ledger *ledger, uint32_t generation, uint32_t node, uint64_t records)
{
    assert(ledger && node < NODES_MAX);

    struct page *page = find(ledger, generation);
    if (!page)
        return;
    page->losses += records < page->buffered[node];
    page->buffered[node] = 0;
}

uint64_t ledger_losses(const struct ledger *ledger, uint32_t generation)
{
    assert(ledger);

    const struct page *page = find(ledger, generation);
    return page ? page->losses : 0;
}
