// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_made.h - a Hugging Face tokenizer.json of CLIP's pipeline around a vocabulary.
//
// For tests: every problem ends the program.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_TOKENIZER_JSON_MADE_H
#define RECO_TESTS_SUPPORT_TOKENIZER_JSON_MADE_H

#include <stdbool.h>

#include "proto/base/bytes.h"

// The file for vocab.json and merges.txt, with merges as pairs, which newer exporters write, or as
// texts. A NUL stands behind it. The caller ends *out with buffer_deinit().
void tokenizer_json_make(struct bytes vocab_json, struct bytes merges_txt, bool pairs,
                         struct buffer *out);

#endif
