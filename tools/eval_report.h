// SPDX-License-Identifier: Apache-2.0
// eval_report.h - evaluations as one HTML page that needs nothing else: tables, drawings, examples.
//
// A section is an evaluation of one data set. A page of several begins with a table of those that
// change nothing, and with the way to all.
//
// No script, no font, no picture from elsewhere; light or dark as the reader's system is.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_EVAL_REPORT_H
#define RECO_TOOLS_EVAL_REPORT_H

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_examples.h"
#include "tools/eval_page.h"
#include "tools/eval_result.h"

// A zero struct is an empty page; `is_of_many` is set before the first section.
struct eval_report {
    bool is_of_many;
    size_t count;              // sections
    struct eval_page title;    // of the first section
    struct eval_page facts;    //
    struct eval_page overview; // rows of its table
    struct eval_page ways;     // links to the sections
    struct eval_page sections;
};

struct eval_section {
    const struct eval_result *result;     // of the same evaluation for all sections
    const char *what;                     // "zero-shot", for its heading
    const struct eval_classes *classes;   // of the examples
    const struct eval_examples *examples; // NULL: none
};

// Nothing of the section is kept.
void eval_report_add(struct eval_report *report, const struct eval_section *section);

// Writes the page in place of a file that is there. STATUS_IO, STATUS_NO_MEMORY.
enum status eval_report_write(const char *path, const struct eval_report *report,
                              struct reason *why) MUST_CHECK;
void eval_report_deinit(struct eval_report *report);

#endif
