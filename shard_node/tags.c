// SPDX-License-Identifier: Apache-2.0
// A table from a tag's text to the list of its slots. Texts are compared whole: two tags with the
// same hash stay two tags.
//
// A filter becomes bits: one pass over the slots of each tag that it names, and one over the words.
// So it costs what the named tags have of records, not what the memory has.

#include "shard_node/tags.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"

#define PLACES_FIRST 64u // of the table; a power of two, at least half of them free

// The first slot has its place here, since many tags have one record only.
struct tag {
    uint64_t hash;
    char *text;
    uint32_t bytes;
    uint32_t count;
    uint32_t first;
    uint32_t room;  // of `more`
    uint32_t *more; // [room], count - 1 of them used
};

struct tags_content {
    struct tag *list;
    uint32_t count;
    uint32_t room;
    uint32_t *places; // index in `list` + 1; 0: free
    size_t place_count;
    uint64_t *unknown; // NULL: none
    size_t unknown_words;
    uint64_t bytes; // of texts and lists of slots
};

struct tags {
    pthread_rwlock_t lock; // `in`
    struct tags_content in;
};

struct tags *tags_create(void)
{
    struct tags *tags = mem_alloc(sizeof(*tags));
    pthread_rwlock_init(&tags->lock, NULL);
    return tags;
}

void tags_destroy(struct tags **tags_pointer)
{
    struct tags *tags = *tags_pointer;
    if (!tags)
        return;
    for (uint32_t i = 0; i < tags->in.count; i++) {
        mem_free(tags->in.list[i].text);
        mem_free(tags->in.list[i].more);
    }
    mem_free(tags->in.list);
    mem_free(tags->in.places);
    mem_free(tags->in.unknown);
    pthread_rwlock_destroy(&tags->lock);
    mem_free(tags);
    *tags_pointer = NULL;
}

// --- the table

// The place of the tag, or the free one where it belongs; the table has free places.
static size_t place_of(const struct tags *tags, uint64_t hash, struct text text)
{
    size_t at = hash & (tags->in.place_count - 1);
    while (tags->in.places[at] != 0) {
        const struct tag *tag = &tags->in.list[tags->in.places[at] - 1];
        if (tag->hash == hash && tag->bytes == text.bytes &&
            memcmp(tag->text, text.data, text.bytes) == 0)
            break;
        at = (at + 1) & (tags->in.place_count - 1);
    }
    return at;
}

static const struct tag *find(const struct tags *tags, struct text text)
{
    if (tags->in.place_count == 0 || text.bytes == 0)
        return NULL;
    const uint32_t place = tags->in.places[place_of(tags, hash_id(text.data, text.bytes), text)];
    return place == 0 ? NULL : &tags->in.list[place - 1];
}

static bool reserve_places(struct tags *tags)
{
    if (tags->in.place_count >= 2 * ((size_t)tags->in.count + 1))
        return true;
    const size_t count = tags->in.place_count == 0 ? PLACES_FIRST : 2 * tags->in.place_count;
    uint32_t *places = mem_try_alloc_array(count, sizeof(*places));
    if (!places)
        return false;
    memset(places, 0, count * sizeof(*places));
    for (uint32_t i = 0; i < tags->in.count; i++) {
        size_t at = tags->in.list[i].hash & (count - 1);
        while (places[at] != 0)
            at = (at + 1) & (count - 1);
        places[at] = i + 1;
    }
    mem_free(tags->in.places);
    tags->in.places = places;
    tags->in.place_count = count;
    return true;
}

static bool reserve_list(struct tags *tags)
{
    if (tags->in.count < tags->in.room)
        return true;
    const uint32_t room = tags->in.room == 0 ? PLACES_FIRST : 2 * tags->in.room;
    struct tag *list = room > tags->in.room ? mem_try_alloc_array(room, sizeof(*list)) : NULL;
    if (!list)
        return false;
    if (tags->in.count > 0)
        memcpy(list, tags->in.list, tags->in.count * sizeof(*list));
    mem_free(tags->in.list);
    tags->in.list = list;
    tags->in.room = room;
    return true;
}

// The tag's entry, made when there is none. NULL when there is no memory.
static struct tag *find_or_add(struct tags *tags, struct text text)
{
    if (!reserve_places(tags) || !reserve_list(tags))
        return NULL;
    const uint64_t hash = hash_id(text.data, text.bytes);
    const size_t at = place_of(tags, hash, text);
    if (tags->in.places[at] != 0)
        return &tags->in.list[tags->in.places[at] - 1];

    char *copy = mem_try_alloc(text.bytes);
    if (!copy)
        return NULL;
    memcpy(copy, text.data, text.bytes);
    struct tag *tag = &tags->in.list[tags->in.count++];
    *tag = (struct tag){.hash = hash, .text = copy, .bytes = (uint32_t)text.bytes};
    tags->in.places[at] = tags->in.count;
    tags->in.bytes += text.bytes;
    return tag;
}

static bool add_slot(struct tags *tags, struct tag *tag, uint32_t slot)
{
    if (tag->count == 0) {
        tag->first = slot;
    } else {
        if (tag->count - 1 == tag->room) {
            const uint32_t room = tag->room == 0 ? 3 : tag->room + tag->room / 2 + 1;
            uint32_t *more = mem_try_alloc_array(room, sizeof(*more));
            if (!more)
                return false;
            if (tag->room > 0)
                memcpy(more, tag->more, tag->room * sizeof(*more));
            mem_free(tag->more);
            tags->in.bytes += (room - tag->room) * sizeof(*more);
            tag->more = more;
            tag->room = room;
        }
        tag->more[tag->count - 1] = slot;
    }
    tag->count++;
    return true;
}

enum status tags_add(struct tags *tags, uint32_t slot, struct text joined)
{
    bool noted = true;
    size_t begun = 0;
    if (joined.bytes == 0)
        return STATUS_OK;
    pthread_rwlock_wrlock(&tags->lock);
    for (size_t i = 0; i <= joined.bytes && noted; i++) {
        if (i < joined.bytes && joined.data[i] != SHARD_TAG_SEPARATOR)
            continue;
        if (i > begun) {
            struct tag *tag = find_or_add(tags, (struct text){joined.data + begun, i - begun});
            noted = tag && add_slot(tags, tag, slot);
        }
        begun = i + 1;
    }
    pthread_rwlock_unlock(&tags->lock);
    return noted ? STATUS_OK : STATUS_NO_MEMORY;
}

void tags_set_unknown(struct tags *tags, uint64_t *bits, size_t words)
{
    pthread_rwlock_wrlock(&tags->lock);
    mem_free(tags->in.unknown);
    tags->in.unknown = bits;
    tags->in.unknown_words = words;
    pthread_rwlock_unlock(&tags->lock);
}

// The lock stays where it is; the other's needs no holding.
void tags_exchange(struct tags *tags, struct tags *other)
{
    pthread_rwlock_wrlock(&tags->lock);
    const struct tags_content held = tags->in;
    tags->in = other->in;
    other->in = held;
    pthread_rwlock_unlock(&tags->lock);
}

uint64_t tags_bytes(struct tags *tags)
{
    pthread_rwlock_rdlock(&tags->lock);
    const uint64_t bytes = tags->in.bytes + tags->in.room * sizeof(*tags->in.list) +
                           tags->in.place_count * sizeof(*tags->in.places) +
                           tags->in.unknown_words * sizeof(*tags->in.unknown);
    pthread_rwlock_unlock(&tags->lock);
    return bytes;
}

// --- filters

// Sets the bits of a tag's slots; those that came after the view are not for it.
static void set_bits(const struct tag *tag, uint32_t slot_count, uint64_t *bits)
{
    for (uint32_t i = 0; tag && i < tag->count; i++) {
        const uint32_t slot = i == 0 ? tag->first : tag->more[i - 1];
        if (slot < slot_count)
            bits[slot / 64] |= 1ull << (slot % 64);
    }
}

// live &= bits, or &= ~bits.
static void keep(uint64_t *live, const uint64_t *bits, size_t words, bool without)
{
    for (size_t w = 0; w < words; w++)
        live[w] &= without ? ~bits[w] : bits[w];
}

enum status tags_keep(struct tags *tags, const struct tags_filter *filter, uint32_t slot_count,
                      uint64_t *live)
{
    const size_t words = ((size_t)slot_count + 63) / 64;
    if (filter->all_count + filter->any_count + filter->no_count == 0)
        return STATUS_OK;
    uint64_t *bits = mem_try_alloc_array(words + 1, sizeof(*bits));
    if (!bits)
        return STATUS_NO_MEMORY;

    pthread_rwlock_rdlock(&tags->lock);
    for (size_t i = 0; i < filter->all_count; i++) {
        memset(bits, 0, words * sizeof(*bits));
        set_bits(find(tags, filter->all[i]), slot_count, bits);
        keep(live, bits, words, false);
    }
    memset(bits, 0, words * sizeof(*bits));
    for (size_t i = 0; i < filter->any_count; i++)
        set_bits(find(tags, filter->any[i]), slot_count, bits);
    if (filter->any_count > 0)
        keep(live, bits, words, false);
    memset(bits, 0, words * sizeof(*bits));
    for (size_t i = 0; i < filter->no_count; i++)
        set_bits(find(tags, filter->no[i]), slot_count, bits);
    if (filter->no_count > 0)
        keep(live, bits, words, true);
    if (tags->in.unknown)
        keep(live, tags->in.unknown,
             words < tags->in.unknown_words ? words : tags->in.unknown_words, true);
    pthread_rwlock_unlock(&tags->lock);
    mem_free(bits);
    return STATUS_OK;
}
