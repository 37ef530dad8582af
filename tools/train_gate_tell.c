// SPDX-License-Identifier: Apache-2.0
// What a gate was learnt from and what it is worth, for people and for programs.

#include <inttypes.h>
#include <stdio.h>

#include "tools/output.h"
#include "tools/train_gate_internal.h"

static const char *const label_names[TRAIN_GATE_LABELS] = {"own", "all"};

static void put_shares(const struct train_gate_shares *shares, struct json_writer *writer)
{
    const double values[] = {shares->plain, shares->refined, shares->chosen};
    static const char *const names[] = {"plain", "refined", "chosen"};
    json_begin_object(writer);
    for (size_t i = 0; i < 3; i++) {
        json_name(writer, names[i]);
        json_put_double(writer, values[i]);
    }
    json_end_object(writer);
}

static void put_kind(const struct train_gate *gate, size_t kind, struct json_writer *writer)
{
    json_begin_object(writer);
    json_name(writer, "pictures");
    json_put_uint(writer, gate->pictures[kind]);
    json_name(writer, "labels");
    json_put_uint(writer, gate->labels[kind]);
    for (size_t scene = 0; scene < TRAIN_GATE_SCENES; scene++) {
        if (!train_gate_scenes[scene].asked[kind].is_asked)
            continue;
        json_name(writer, train_gate_scenes[scene].name);
        json_begin_object(writer);
        for (size_t labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
            json_name(writer, label_names[labels]);
            put_shares(&gate->shares[scene][kind][labels], writer);
        }
        json_end_object(writer);
    }
    json_end_object(writer);
}

void train_gate_put(const struct train_gate *gate, struct json_writer *writer)
{
    json_begin_object(writer);
    json_name(writer, "cases");
    json_put_uint(writer, gate->cases);
    json_name(writer, "memory_right");
    json_put_uint(writer, gate->memory_right);
    json_name(writer, "constants");
    fusion_gate_write(&gate->gate, writer);
    for (size_t kind = 0; kind < TRAIN_GATE_KINDS; kind++) {
        json_name(writer, train_gate_kinds[kind]);
        put_kind(gate, kind, writer);
    }
    json_end_object(writer);
}

void train_gate_show(const struct train_gate *gate)
{
    static const char *const header[] = {"asked for", "from",         ">own labels: plain",
                                         ">the head", ">by the gate", ">all labels: plain",
                                         ">the head", ">by the gate"};
    struct output_table table;
    printf("gate: learnt from %" PRIu64 " answers that differ, of which the memory's was right in "
           "%" PRIu64 "\n",
           gate->cases, gate->memory_right);
    output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    for (size_t kind = 0; kind < TRAIN_GATE_KINDS; kind++)
        for (size_t scene = 0; scene < TRAIN_GATE_SCENES; scene++) {
            if (!train_gate_scenes[scene].asked[kind].is_asked)
                continue;
            output_cell(&table, "%s things", train_gate_kinds[kind]);
            output_cell(&table, "%s", train_gate_scenes[scene].words);
            for (size_t labels = 0; labels < TRAIN_GATE_LABELS; labels++) {
                const struct train_gate_shares *shares = &gate->shares[scene][kind][labels];
                output_cell(&table, "%.3f", shares->plain);
                output_cell(&table, "%.3f", shares->refined);
                output_cell(&table, "%.3f", shares->chosen);
            }
        }
    output_table_end(&table, 2);
}
