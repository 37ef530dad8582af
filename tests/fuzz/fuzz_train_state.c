// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes in the place of a training's note break its reader; what it accepts is written as
// it was read, so that a training goes on with the same numbers.
//
// Method: the input is a note; an accepted one is written, read and written again.

#include <stdlib.h>
#include <string.h>

#include "tools/train_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static struct text text_in(const struct json_writer *writer)
{
    return (struct text){(const char *)writer->out.data, writer->out.count};
}

static void write_again(const struct train_state *first)
{
    struct json_writer once = {.failed = false};
    struct json_writer twice = {.failed = false};
    struct train_state second;
    struct reason why = {.text = ""};
    train_state_write(first, &once);
    check(!train_state_init(&second, "head", &why));
    check(!train_state_parse(&second, text_in(&once), &why));
    memcpy(second.facts, first->facts, sizeof(second.facts));
    second.fact_count = first->fact_count;
    train_state_write(&second, &twice);
    check(text_equal(text_in(&once), text_in(&twice)));
    train_state_deinit(&second);
    json_writer_deinit(&once);
    json_writer_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct train_state state;
    struct reason why = {.text = ""};
    check(!train_state_init(&state, "head", &why));
    train_state_fact(&state, "--every", "20");
    train_state_fact(&state, "--noise", "0.25");
    const struct text note = {(const char *)data, size};
    if (train_state_parse(&state, note, &why)) {
        check(why.text[0] && state.point_count == 0 && !state.points);
    } else {
        check(state.best < state.point_count && train_state_stale(&state) < state.point_count);
        write_again(&state);
    }
    train_state_deinit(&state);
    return 0;
}
