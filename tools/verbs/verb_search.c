// SPDX-License-Identifier: Apache-2.0
// reco search: the neighbours of pictures, texts or embeddings.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/queries.h"
#include "tools/verbs.h"

static enum api_method search_method(enum api_input kind)
{
    (void)kind;
    return API_SEARCH;
}

static enum status show(void *context, const struct queries_answer *answer)
{
    const struct queries *queries = context;
    if (queries->options->json)
        return answers_put_line(queries->options, API_SEARCH, answer->input, answer->answer);

    answers_print_input(answer->input, answer->answer);
    answers_print_neighbours(&answer->answer->neighbours, 2);
    answers_print_state(answer->answer, 2);
    return STATUS_OK;
}

static int run_search(const struct options *options)
{
    struct queries queries;
    struct reason why = {.text = ""};
    if (queries_begin(&queries, options, &why)) {
        output_error(NULL, &why);
        queries_end(&queries);
        return VERBS_USAGE;
    }
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (!exit_status)
        exit_status = queries_run(&queries, client, search_method, show, &queries);
    queries_end(&queries);
    client_close(&client);
    return exit_status;
}

static const struct args_flag search_flags[] = {
    {.name = "--part",
     .kind = ARGS_LIST,
     .argument = "KIND=VALUE@WEIGHT",
     .help = "a part of one weighted query: image=FILE, text=TEXT or embedding=FILE.npy, and how "
             "much it counts, -100 to 100 (default 1), after the last @",
     .offset = offsetof(struct options, parts)},
    {.name = NULL},
};

const struct verb verb_search = {
    .args = {.name = "search",
             .items = "",
             .summary = "nearest neighbours of a picture, a text or an embedding",
             .details =
                 "A picture is compared with the pictures of the memory, a text with its texts;\n"
                 "--over chooses otherwise. Each input flag may be given again and again.\n"
                 "All --part together are one query, their weighted sum:\n"
                 "  reco search --part image=a.png@0.7 --part 'text=snow@-0.5'\n\n"
                 "JSON line: "
                 "{\"input\",\"neighbours\":[{\"id\",\"key\",\"score\",\"caption\",\"source\"}],\n"
                 "\"coverage\",\"degraded\":[],\"memory\",\"generation\",\"space\",\"index\","
                 "\"records\",\n"
                 "\"work\":{\"exact\",\"lists_probed\",\"codes_scanned\",\"rows_refined\","
                 "\"rows_read\"},\n"
                 "\"request_id\",\"timings_ms\":{}}",
             .groups = {search_flags, options_input, options_query, options_fields, options_profile,
                        options_memory, options_items, options_data, options_model, options_server,
                        options_common}},
    .chapter = "asking",
    .run = run_search,
};
