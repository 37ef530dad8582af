// SPDX-License-Identifier: Apache-2.0
// eval_plot.h - the rows of an evaluation as a drawing in SVG.
//
// Where something was changed step by step, the first metric runs against it: a line and its 95 %
// interval for each mode, plain CLIP as a level. Else each row is a bar with its interval.
//
// Colours are classes (m0 .. m3 by mode), which the page's style sheet knows.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_EVAL_PLOT_H
#define RECO_TOOLS_EVAL_PLOT_H

#include "tools/eval_page.h"
#include "tools/eval_result.h"

void eval_plot_append(const struct eval_result *result, struct eval_page *page);

#endif
