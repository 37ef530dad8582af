// SPDX-License-Identifier: Apache-2.0
// encoder.c - decodes pictures into a buffer of at most PIXEL_BATCH, runs the clip on those
// that decoded, and puts the embeddings where they belong. An embedding does not depend on its
// batch (clip.h), so leaving a broken picture out changes nothing for the others.

#include "coordinator/encoder.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"

#define PIXEL_BATCH 16u // pictures decoded at a time: 10 MB at 224 x 224

// Relaxed: one that is missed is seen at the next picture.
static bool is_cancelled(const struct encoder_images *work)
{
    return work->cancelled && atomic_load_explicit(work->cancelled, memory_order_relaxed);
}

// Decodes the files from..to; places[] gets the indices of those that went well.
static size_t decode_batch(struct encoder_images *work, const struct image_params *params,
                           size_t from, size_t to, float *pixels, size_t *places)
{
    size_t picture = (size_t)3 * params->size * params->size;
    size_t good = 0;
    for (size_t i = from; i < to && !is_cancelled(work); i++) {
        struct image_timing timing = {0};
        work->statuses[i] = image_preprocess(work->files[i], params, pixels + good * picture,
                                             &timing, &work->reasons[i]);
        work->decode_ms += timing.decode_ms;
        work->preprocess_ms += timing.preprocess_ms;
        if (work->statuses[i] == STATUS_OK)
            places[good++] = i;
    }
    return good;
}

static enum status run_batches(struct clip *clip, struct encoder_images *work, float *pixels,
                               float *embeddings, struct reason *why)
{
    uint32_t dimension = clip_info(clip)->dimension;
    struct image_params params = *clip_info(clip)->image;
    params.profile = work->profile;
    for (size_t from = 0; from < work->count; from += PIXEL_BATCH) {
        size_t places[PIXEL_BATCH];
        size_t to = from + PIXEL_BATCH < work->count ? from + PIXEL_BATCH : work->count;
        size_t good = decode_batch(work, &params, from, to, pixels, places);
        if (is_cancelled(work))
            return reason_set(why, STATUS_CANCELLED, NULL, "cancelled");
        if (good == 0)
            continue;
        int64_t begun_us = clock_now_us();
        enum status status = clip_encode_pixels(clip, pixels, good, embeddings, why);
        if (status != STATUS_OK)
            return status;
        work->encode_ms += (double)(clock_now_us() - begun_us) / 1000;
        for (size_t i = 0; i < good; i++)
            memcpy(work->embeddings + places[i] * dimension, embeddings + i * dimension,
                   dimension * sizeof(*embeddings));
    }
    return STATUS_OK;
}

enum status encoder_images(struct clip *clip, struct encoder_images *work, struct reason *why)
{
    assert(clip && work);

    const struct clip_info *info = clip_info(clip);
    if (!info->image)
        return reason_set(why, STATUS_UNSUPPORTED, "image",
                          "the model %s has no preprocessor_config.json: it encodes no pictures",
                          info->name);

    size_t batch = work->count < PIXEL_BATCH ? work->count : PIXEL_BATCH;
    size_t picture = (size_t)3 * info->image_size * info->image_size;
    memset(work->embeddings, 0, work->count * info->dimension * sizeof(*work->embeddings));
    float *pixels = mem_try_alloc_array(batch * picture, sizeof(*pixels));
    float *embeddings = mem_try_alloc_array(batch * info->dimension, sizeof(*embeddings));
    enum status status = STATUS_NO_MEMORY;
    if (pixels && embeddings)
        status = run_batches(clip, work, pixels, embeddings, why);
    else
        (void)reason_set(why, status, "image", "no memory to decode %zu pictures", batch);
    mem_free(pixels);
    mem_free(embeddings);
    return status;
}
