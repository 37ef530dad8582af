// SPDX-License-Identifier: Apache-2.0
// queries.h - what the flags --image, --text and --embedding ask, one query after the other.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_QUERIES_H
#define RECO_TOOLS_QUERIES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/wire/api.h"
#include "tools/client.h"
#include "tools/filters.h"
#include "tools/inputs.h"
#include "tools/npyfile.h"
#include "tools/options.h"
#include "tools/parts.h"

#define QUERIES_NAME_BYTES 4200

enum queries_step {
    QUERIES_ITEM,
    QUERIES_BAD, // this one cannot be read: named, with the reason
    QUERIES_END,
};

// What Classify asks beside the picture. A server that was started again has forgotten the
// labels: `renew` gives them to it once more, under the same id.
struct queries_extra {
    struct text label_set_id;
    uint32_t top;
    uint32_t candidates_max; // of DiscoverLabels
    enum status (*renew)(void *context, struct reason *why);
    void *context;
};

struct queries {
    const struct options *options;
    enum api_input kind;
    struct inputs inputs;
    struct buffer picture;
    struct npyfile *rows; // open array of --embedding
    const char *rows_path;
    uint64_t row; // next of it
    float *embedding;
    char name[QUERIES_NAME_BYTES]; // of the current query: path, text, or "FILE.npy[ROW]"
    struct text *exclude;
    struct filters filters;
    struct parts parts; // of the one query that they are
    bool parts_are_asked;
    struct api_options message;
    struct queries_extra extra;
};

// STATUS_INVALID unless exactly one of these flags, or --part, is given, and for a filter or fields
// that are none.
enum status queries_begin(struct queries *queries, const struct options *options,
                          struct reason *why) MUST_CHECK;

// Rows of --embedding alone, or the pictures of `items`, whatever else is given.
enum status queries_begin_rows(struct queries *queries, const struct options *options,
                               struct reason *why) MUST_CHECK;
enum status queries_begin_pictures(struct queries *queries, const struct options *options,
                                   const struct args_list *items, struct reason *why) MUST_CHECK;

// The next query; request and queries->name are valid until the next call.
enum queries_step queries_next(struct queries *queries, struct api_query_request *out,
                               struct reason *why);

void queries_end(struct queries *queries); // also of one that did not begin, or is a zero struct

// Asks one query after the other. Each answer goes to `show`, which returns STATUS_OK or what ends
// everything (it has said why). Failures are named on stderr; the first ends it unless
// options->keep_going. Returns the exit status.
struct queries_answer {
    const char *input;
    const struct api_query_request *request;
    const struct api_answer *answer;
};
typedef enum status (*queries_show)(void *context, const struct queries_answer *answer);
typedef enum api_method (*queries_method)(enum api_input kind);

int queries_run(struct queries *queries, struct client *client, queries_method method,
                queries_show show, void *context);

#endif
