// SPDX-License-Identifier: Apache-2.0
// encoder.c - decodes pictures into a buffer of ENCODER_PICTURES_MAX, whoever they are of, runs the
// clip on those that decoded, and puts the embeddings where they belong. An embedding does
// not depend on its batch (clip.h), so leaving a broken picture out changes nothing for the
// others, nor does who shares a batch.
//
//   pictures, texts --> reco-encoder, when there is one and it is up --> embeddings
//                   \-> the clip of this process, else, and when that fails -/

#include "coordinator/encoder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/encoder_link.h"
#include "coordinator/telemetry.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

struct encoder {
    struct clip *clip;                     // on the CPU when there is a process
    struct encoder_link *link;             // NULL: no process
    char device[ENCODER_MSG_DEVICE_BYTES]; // the process', as it first said
    struct telemetry *telemetry;
    uint8_t *pictures; // [ENCODER_PICTURES_MAX], prepared; NULL for a model without pictures
    float *embeddings; // [ENCODER_PICTURES_MAX][dimension]
};

// Where a decoded picture belongs.
struct place {
    struct encoder_images *work;
    size_t picture;
};

// The next picture to decode: of which asker, and which of his.
struct cursor {
    struct encoder_images *const *works;
    size_t count;
    size_t work;
    size_t picture;
};

// ---------------------------------------------------------------- life

// Others may read the name, so it is written once.
static void keep_device(struct encoder *encoder)
{
    if (encoder->device[0] == '\0' && encoder_link_is_up(encoder->link))
        (void)snprintf(encoder->device, sizeof(encoder->device), "%s",
                       encoder_link_device(encoder->link));
}

// Both open their model at the same time.
static enum status open_both(struct encoder *encoder, const struct encoder_params *params,
                             struct reason *why)
{
    struct clip_params clip = params->clip;
    enum status status = STATUS_OK;
    if (params->process) {
        const struct encoder_link_params link = {
            .program = params->process, .clip = &params->clip, .telemetry = params->telemetry};
        clip.device = "cpu";
        status = encoder_link_open(&link, &encoder->link, why);
    }
    if (status == STATUS_OK)
        status = clip_open(&clip, &encoder->clip, why);
    if (status == STATUS_OK && encoder->link) {
        status = encoder_link_wait(encoder->link, clip_info(encoder->clip), why);
        keep_device(encoder);
    }
    return status;
}

enum status encoder_open(const struct encoder_params *params, struct encoder **out,
                         struct reason *why)
{
    assert(params && out);

    struct encoder *encoder = mem_alloc(sizeof(*encoder));
    encoder->telemetry = params->telemetry;
    enum status status = open_both(encoder, params, why);
    if (status == STATUS_OK && clip_info(encoder->clip)->image) {
        const struct clip_info *info = clip_info(encoder->clip);
        encoder->pictures =
            mem_try_alloc_array(ENCODER_PICTURES_MAX, IMAGE_PICTURE_BYTES(info->image_size));
        encoder->embeddings = mem_try_alloc_array((size_t)ENCODER_PICTURES_MAX * info->dimension,
                                                  sizeof(*encoder->embeddings));
        if (!encoder->pictures || !encoder->embeddings)
            status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %u pictures",
                                ENCODER_PICTURES_MAX);
    }
    if (status != STATUS_OK) {
        encoder_close(&encoder);
        return status;
    }
    *out = encoder;
    return STATUS_OK;
}

void encoder_close(struct encoder **encoder)
{
    assert(encoder);

    if (!*encoder)
        return;
    encoder_link_close(&(*encoder)->link);
    clip_close(&(*encoder)->clip);
    mem_free((*encoder)->pictures);
    mem_free((*encoder)->embeddings);
    mem_free(*encoder);
    *encoder = NULL;
}

const struct clip_info *encoder_info(const struct encoder *encoder)
{
    return clip_info(encoder->clip);
}

const struct tokenizer *encoder_tokenizer(const struct encoder *encoder)
{
    return clip_tokenizer(encoder->clip);
}

void encoder_turn(struct encoder *encoder)
{
    if (!encoder->link)
        return;
    encoder_link_turn(encoder->link);
    keep_device(encoder);
}

int encoder_fd(const struct encoder *encoder)
{
    return encoder->link ? encoder_link_fd(encoder->link) : -1;
}

int64_t encoder_next_us(const struct encoder *encoder)
{
    return encoder->link ? encoder_link_next_us(encoder->link) : DEADLINE_NONE;
}

const char *encoder_device(const struct encoder *encoder)
{
    bool is_up = encoder->link && encoder_link_is_up(encoder->link);
    return is_up ? encoder->device : clip_info(encoder->clip)->device;
}

// ---------------------------------------------------------------- the model

// Counts a batch that this process computes. `asked`: what reco-encoder said to it.
static void count_own(const struct encoder *encoder, enum status asked)
{
    telemetry_encoded(encoder->telemetry,
                      asked == STATUS_UNAVAILABLE ? TELEMETRY_BY_CPU : TELEMETRY_BY_RETRY);
}

static enum status encode_pictures(struct encoder *encoder, size_t count, struct reason *why)
{
    enum status status = STATUS_UNAVAILABLE;
    if (encoder->link)
        status =
            encoder_link_pictures(encoder->link, encoder->pictures, count, encoder->embeddings);
    telemetry_batch(encoder->telemetry, TELEMETRY_BATCH_IMAGES, count);
    if (status == STATUS_OK) {
        telemetry_encoded(encoder->telemetry, TELEMETRY_BY_PROCESS);
        return STATUS_OK;
    }
    count_own(encoder, status);
    return clip_encode_pictures(encoder->clip, encoder->pictures, count, encoder->embeddings, why);
}

enum status encoder_texts(struct encoder *encoder, const struct text *texts, size_t count,
                          float *embeddings, struct reason *why)
{
    assert(encoder && texts && count > 0);

    size_t done = 0;
    enum status status = encoder->link ? STATUS_OK : STATUS_UNAVAILABLE;
    telemetry_batch(encoder->telemetry, TELEMETRY_BATCH_TEXTS, count);
    while (done < count && status == STATUS_OK) {
        size_t taken = 0;
        status =
            encoder_link_texts(encoder->link, texts + done, count - done,
                               embeddings + done * clip_info(encoder->clip)->dimension, &taken);
        if (status == STATUS_OK) {
            telemetry_encoded(encoder->telemetry, TELEMETRY_BY_PROCESS);
            done += taken;
        }
    }
    if (done == count)
        return STATUS_OK;
    count_own(encoder, status);
    return clip_encode_texts(encoder->clip, texts + done, count - done,
                             embeddings + done * clip_info(encoder->clip)->dimension, why);
}

// ---------------------------------------------------------------- pictures

// Relaxed: one that is missed is seen at the next picture.
static bool is_cancelled(const struct encoder_images *work)
{
    return work->cancelled && atomic_load_explicit(work->cancelled, memory_order_relaxed);
}

// The asker whose turn it is; NULL behind the last. Those who have given up are passed over.
static struct encoder_images *next_work(struct cursor *cursor)
{
    while (cursor->work < cursor->count) {
        struct encoder_images *work = cursor->works[cursor->work];
        bool is_done = cursor->picture == work->count;
        if (!is_done && is_cancelled(work))
            work->is_given_up = true;
        if (!is_done && !work->is_given_up)
            return work;
        cursor->work++;
        cursor->picture = 0;
    }
    return NULL;
}

// Decodes the next pictures until the buffer is full; places[] says whose the good ones are.
static size_t decode_batch(struct encoder *encoder, struct cursor *cursor, struct place *places)
{
    struct image_params params = *clip_info(encoder->clip)->image;
    const size_t picture = IMAGE_PICTURE_BYTES(params.size);
    struct encoder_images *work = NULL;
    size_t good = 0;
    while (good < ENCODER_PICTURES_MAX && (work = next_work(cursor)) != NULL) {
        struct image_timing timing = {0};
        size_t i = cursor->picture++;
        params.profile = work->profile;
        work->statuses[i] =
            image_prepare(work->files[i], &params, encoder->pictures + good * picture, &timing,
                          &work->reasons[i]);
        work->decode_ms += timing.decode_ms;
        work->preprocess_ms += timing.preprocess_ms;
        if (work->statuses[i] == STATUS_OK)
            places[good++] = (struct place){work, i};
    }
    return good;
}

static bool all_gave_up(const struct cursor *cursor)
{
    for (size_t i = 0; i < cursor->count; i++)
        if (!cursor->works[i]->is_given_up)
            return false;
    return true;
}

// Those of one asker lie side by side.
static void hand_out(const struct encoder *encoder, const struct place *places, size_t count,
                     double encode_ms)
{
    uint32_t dimension = clip_info(encoder->clip)->dimension;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || places[i].work != places[i - 1].work)
            places[i].work->encode_ms += encode_ms;
        memcpy(places[i].work->embeddings + places[i].picture * dimension,
               encoder->embeddings + i * dimension, dimension * sizeof(*encoder->embeddings));
    }
}

enum status encoder_images(struct encoder *encoder, struct encoder_images *const *works,
                           size_t count, struct reason *why)
{
    assert(encoder && works && count > 0);

    const struct clip_info *info = clip_info(encoder->clip);
    if (!info->image)
        return reason_set(why, STATUS_UNSUPPORTED, "image",
                          "the model %s has no preprocessor_config.json: it encodes no pictures",
                          info->name);

    for (size_t i = 0; i < count; i++)
        memset(works[i]->embeddings, 0,
               works[i]->count * info->dimension * sizeof(*works[i]->embeddings));
    struct place places[ENCODER_PICTURES_MAX];
    struct cursor cursor = {.works = works, .count = count};
    while (next_work(&cursor)) {
        size_t good = decode_batch(encoder, &cursor, places);
        if (good == 0 || all_gave_up(&cursor))
            continue;
        int64_t begun_us = clock_now_us();
        enum status status = encode_pictures(encoder, good, why);
        if (status != STATUS_OK)
            return status;
        hand_out(encoder, places, good, (double)(clock_now_us() - begun_us) / 1000);
    }
    return STATUS_OK;
}
