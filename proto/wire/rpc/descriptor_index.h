// SPDX-License-Identifier: Apache-2.0
// descriptor_index.h - finds .proto files and their symbols in FileDescriptorSets, for reflection.
//
// Thread-safety: an index does not change after it is made; any thread may ask it.

#ifndef RECO_PROTO_WIRE_RPC_DESCRIPTOR_INDEX_H
#define RECO_PROTO_WIRE_RPC_DESCRIPTOR_INDEX_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define DESCRIPTOR_INDEX_FILES_MAX 64
#define DESCRIPTOR_INDEX_SYMBOLS_MAX 4096
#define DESCRIPTOR_INDEX_NAME_BYTES_MAX 512

struct descriptor_index;

// Reads `count` serialised FileDescriptorSets, which must outlive the index. Of two files with one
// name the first counts. STATUS_INVALID when a set is not well formed or exceeds a limit.
enum status descriptor_index_create(const struct bytes *sets, size_t count,
                                    struct descriptor_index **out, struct reason *why) MUST_CHECK;
void descriptor_index_destroy(struct descriptor_index **index); // NULL is allowed

// The number of the file with this path; false when there is none.
bool descriptor_index_file_named(const struct descriptor_index *index, struct text path,
                                 size_t *file);

// The number of the file that declares this message, enum, service, method or extension, by its
// full name without a leading dot; false when there is none.
bool descriptor_index_file_of(const struct descriptor_index *index, struct text symbol,
                              size_t *file);

// Writes the file's FileDescriptorProto and then those of all files that it imports, directly or
// not, each once. Returns their number. Imports that no set holds are left out.
size_t descriptor_index_with_imports(const struct descriptor_index *index, size_t file,
                                     struct bytes files[DESCRIPTOR_INDEX_FILES_MAX]);

#endif
