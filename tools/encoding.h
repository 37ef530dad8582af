// SPDX-License-Identifier: Apache-2.0
// encoding.h - runs the items of a verb through an Encoder call, a batch at a time.
//
// One bad item of a batch costs only itself: the server names it ("images[3]"), it is
// taken out, and the others are asked again.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_ENCODING_H
#define RECO_TOOLS_ENCODING_H

#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/wire/api.h"
#include "tools/options.h"

#define ENCODING_BATCH_MAX 64
#define ENCODING_BATCH_BYTES ((size_t)24 << 20) // of pictures; one alone may be larger
#define ENCODING_REPLY_BYTES_MAX ((size_t)64 << 20)

struct encoding_batch {
    size_t count;
    char *names[ENCODING_BATCH_MAX];            // the items as they were given, owned
    struct buffer pictures[ENCODING_BATCH_MAX]; // EncodeImage only
};

// Shows the reply of one batch; returns STATUS_OK or, having said why, what ends everything.
typedef enum status (*encoding_show)(void *context, const struct encoding_batch *batch,
                                     struct bytes reply);

// Which item of a batch of `count` a server's reason is about: N of "images[N]" or "texts[N]";
// `count`: none.
size_t encoding_blamed_item(const struct reason *why, size_t count);

// `method` is API_ENCODE_IMAGE, API_ENCODE_TEXT or API_TOKENIZE. Failed items are named on
// stderr; the first ends it unless options->keep_going. Returns the exit status.
int encoding_run(const struct options *options, enum api_method method, encoding_show show,
                 void *context);

#endif
