// SPDX-License-Identifier: Apache-2.0
// eval_report.h - an evaluation as one HTML page that needs nothing else: table, drawing, examples.
//
// No script, no font, no picture from elsewhere; light or dark as the reader's system is.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_EVAL_REPORT_H
#define RECO_TOOLS_EVAL_REPORT_H

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_examples.h"
#include "tools/eval_result.h"

struct eval_report {
    const struct eval_result *result;
    const char *what;                     // "zero-shot", for the title
    const struct eval_classes *classes;   // of the examples
    const struct eval_examples *examples; // NULL: none
};

// Writes the page in place of a file that is there. STATUS_IO, STATUS_NO_MEMORY.
enum status eval_report_write(const char *path, const struct eval_report *report,
                              struct reason *why) MUST_CHECK;

#endif
