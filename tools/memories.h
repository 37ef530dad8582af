// SPDX-License-Identifier: Apache-2.0
// memories.h - the short calls of the Memory service that several verbs make.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_MEMORIES_H
#define RECO_TOOLS_MEMORIES_H

#include "proto/base/arena.h"
#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/client.h"

#define MEMORIES_PIN_BYTES 160 // "NAME@GENERATION"
#define MEMORIES_ARENA_BYTES ((size_t)16 << 20)

// Create, Describe, List, Alias, Snapshot, Restore. What *out points to lives in `arena`. They fail
// as the call does.
enum status memories_create(struct client *client, const struct api_create_request *request,
                            struct arena *arena, struct api_memory_info *out,
                            struct reason *why) MUST_CHECK;
enum status memories_describe(struct client *client, const char *name, struct arena *arena,
                              struct api_memory_info *out, struct reason *why) MUST_CHECK;
// Describe with the content hash.
enum status memories_hash(struct client *client, const char *name, struct arena *arena,
                          struct api_memory_info *out, struct reason *why) MUST_CHECK;

enum status memories_list(struct client *client, struct arena *arena, struct api_memory_list *out,
                          struct reason *why) MUST_CHECK;

enum status memories_alias(struct client *client, const struct api_alias_request *request,
                           struct arena *arena, struct api_memory_info *out,
                           struct reason *why) MUST_CHECK;

enum status memories_snapshot(struct client *client, const struct api_snapshot_request *request,
                              struct arena *arena, struct api_snapshot_reply *out,
                              struct reason *why) MUST_CHECK;
enum status memories_restore(struct client *client, const struct api_restore_request *request,
                             struct arena *arena, struct api_restore_reply *out,
                             struct reason *why) MUST_CHECK;

// Drop; *records is how many went with it.
enum status memories_drop(struct client *client, const char *name, uint64_t *records,
                          struct reason *why) MUST_CHECK;

// How many nodes the cluster has.
enum status memories_count_nodes(struct client *client, uint32_t *out,
                                 struct reason *why) MUST_CHECK;

// Export. `take` gets each message as it comes, the first one also when nothing passes; it is valid
// during the call. What `take` returns but STATUS_OK ends the stream and is returned, with what it
// put into `why`.
typedef enum status memories_on_export(void *context, const struct api_export_reply *message,
                                       struct reason *why);
enum status memories_export(struct client *client, const struct api_export_request *request,
                            memories_on_export *take, void *context, struct reason *why) MUST_CHECK;

// "NAME@GENERATION" of a memory, whatever the name itself means meanwhile.
void memories_pin(const struct api_memory_info *info, char out[MEMORIES_PIN_BYTES]);

// "memory","generation","state","space","dimension","vshards","records","bytes","hidden","index",
// "index_bytes","index_lists","index_vectors","index_list_max","aliases","degraded"
void memories_put(struct json_writer *writer, const struct api_memory_info *info);

// The table that people read: a line for each generation.
void memories_print_table(const struct api_memory_list *list);

// Opens the client for a verb and names a failure on stderr; returns VERBS_DONE or the exit status.
int memories_open_client(const struct options *options, enum client_need need, struct client **out);

#endif
