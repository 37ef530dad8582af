// SPDX-License-Identifier: Apache-2.0
// eval_classes.h - the labels of a zero-shot evaluation, their prompts, and a prototype of each
// name.
//
// Labels come from --labels, where a label may have aliases, from the classnames.txt of a data set
// in CLIP_benchmark's layout, or from a data set as its makers publish it. Templates come from
// --template, from CLIP_benchmark's zeroshot_classification_templates.txt, from those that are
// shipped for a data set, or from the model. In a template {} or {c} stands for the label.
//
// A figure depends on both, to the letter: their hashes go beside it. A hash is SHA-256 of lines,
// each ended by a newline: of a label with its aliases, tabs between them, or of a template.
//
// Thread-safety: what was read never changes.

#ifndef RECO_TOOLS_EVAL_CLASSES_H
#define RECO_TOOLS_EVAL_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/hash.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/dataset_place.h"
#include "tools/eval_encode.h"
#include "tools/label_file.h"
#include "tools/options.h"

struct eval_class_name {
    struct text text;
    uint32_t label;
};

struct eval_classes {
    const char *from; // the file, for people
    struct label_file labels;
    struct label_file template_lines;
    struct text *templates; // [template_count]
    size_t template_count;
    struct eval_class_name *sorted; // [labels.name_count], by their texts
    char labels_sha256[HASH_SHA256_HEX_BYTES];
    char templates_sha256[HASH_SHA256_HEX_BYTES];
};

// `model_template` is used where nothing else says one. It, the options and the place outlive the
// classes. STATUS_INVALID naming the flag or the file, STATUS_NOT_FOUND. Whatever comes, *out is
// ended with eval_classes_deinit().
enum status eval_classes_read(const struct options *options, const struct dataset_place *place,
                              struct text model_template, struct eval_classes *out,
                              struct reason *why) MUST_CHECK;
void eval_classes_deinit(struct eval_classes *classes);

// The label of a name or alias; false when it is none.
bool eval_classes_find(const struct eval_classes *classes, struct text name, uint32_t *label);

// A prototype of each name: the normalised mean of its prompts' embeddings. The caller frees
// *out, [labels.name_count][dimension].
enum status eval_classes_encode(const struct eval_classes *classes,
                                const struct eval_encoder *encoder, float **out,
                                struct reason *why) MUST_CHECK;

#endif
