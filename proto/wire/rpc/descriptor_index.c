// SPDX-License-Identifier: Apache-2.0
// A reader of the few fields of descriptor.proto that matter here, straight from the bytes:
//
//   FileDescriptorSet     1 file
//   FileDescriptorProto   1 name, 2 package, 3 import, 4 message, 5 enum, 6 service, 7 extension
//   DescriptorProto       1 name, 3 nested message, 4 nested enum, 6 extension
//   ServiceDescriptor     1 name, 2 method
//   the rest              1 name
//
// The list of symbols is also the list of work: each symbol, once found, is looked at in turn and
// appends what it declares. So nesting needs neither recursion nor a stack.

#include "proto/wire/rpc/descriptor_index.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/mem.h"

enum kind {
    KIND_LEAF, // declares nothing further
    KIND_MESSAGE,
    KIND_SERVICE,
};

struct symbol {
    char *name; // full name, owned
    enum kind kind;
    size_t file;
    struct bytes body;
};

struct file {
    struct bytes body; // the FileDescriptorProto
    struct text path;
};

struct descriptor_index {
    struct file files[DESCRIPTOR_INDEX_FILES_MAX];
    size_t file_count;
    struct symbol symbols[DESCRIPTOR_INDEX_SYMBOLS_MAX];
    size_t symbol_count;
};

// --- the wire format

enum step { STEP_FIELD, STEP_END, STEP_BROKEN };

struct field {
    uint32_t number;
    struct bytes value; // of a length-delimited field, else empty
};

static bool take_varint(struct bytes *rest, uint64_t *value)
{
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (rest->count == 0)
            return false;
        uint8_t byte = *rest->data;
        rest->data++;
        rest->count--;
        sum |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = sum;
            return true;
        }
    }
    return false;
}

static bool take_bytes(struct bytes *rest, uint64_t count, struct bytes *value)
{
    if (count > rest->count)
        return false;
    *value = (struct bytes){rest->data, (size_t)count};
    rest->data += count;
    rest->count -= (size_t)count;
    return true;
}

// Takes the next field from the front of `rest`. Groups do not occur in descriptors.
static enum step take_field(struct bytes *rest, struct field *field)
{
    if (rest->count == 0)
        return STEP_END;

    uint64_t key;
    uint64_t number;
    struct bytes skipped;
    if (!take_varint(rest, &key) || key >> 3 > UINT32_MAX)
        return STEP_BROKEN;
    field->number = (uint32_t)(key >> 3);
    field->value = (struct bytes){NULL, 0};

    bool good = false;
    switch (key & 7) {
    case 0:
        good = take_varint(rest, &number);
        break;
    case 1:
        good = take_bytes(rest, 8, &skipped);
        break;
    case 2:
        good = take_varint(rest, &number) && take_bytes(rest, number, &field->value);
        break;
    case 5:
        good = take_bytes(rest, 4, &skipped);
        break;
    default:
        break;
    }
    return good ? STEP_FIELD : STEP_BROKEN;
}

// The last field of that number, as proto3 has it; empty when there is none.
static struct text text_field(struct bytes message, uint32_t number)
{
    struct text found = {"", 0};
    struct field field;
    while (take_field(&message, &field) == STEP_FIELD)
        if (field.number == number && field.value.count > 0)
            found = (struct text){(const char *)field.value.data, field.value.count};
    return found;
}

// --- making

// Appends a symbol named "scope.name".
static enum status add_symbol(struct descriptor_index *index, struct text scope, enum kind kind,
                              size_t file, struct bytes body)
{
    struct text name = text_field(body, 1);
    size_t bytes = scope.bytes + 1 + name.bytes;
    if (index->symbol_count == DESCRIPTOR_INDEX_SYMBOLS_MAX || name.bytes == 0 ||
        bytes > DESCRIPTOR_INDEX_NAME_BYTES_MAX)
        return STATUS_INVALID;

    char *full = mem_alloc(bytes + 1);
    size_t at = 0;
    if (scope.bytes > 0) {
        memcpy(full, scope.data, scope.bytes);
        full[scope.bytes] = '.';
        at = scope.bytes + 1;
    }
    memcpy(full + at, name.data, name.bytes);

    index->symbols[index->symbol_count++] = (struct symbol){full, kind, file, body};
    return STATUS_OK;
}

static enum status add_file(struct descriptor_index *index, struct bytes body)
{
    struct text path = text_field(body, 1);
    size_t known;
    if (descriptor_index_file_named(index, path, &known))
        return STATUS_OK;
    if (index->file_count == DESCRIPTOR_INDEX_FILES_MAX || path.bytes == 0)
        return STATUS_INVALID;

    size_t file = index->file_count++;
    index->files[file] = (struct file){body, path};

    struct text package = text_field(body, 2);
    struct bytes rest = body;
    struct field field;
    enum step step = STEP_FIELD;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (step = take_field(&rest, &field)) == STEP_FIELD) {
        if (field.number == 4)
            status = add_symbol(index, package, KIND_MESSAGE, file, field.value);
        else if (field.number == 6)
            status = add_symbol(index, package, KIND_SERVICE, file, field.value);
        else if (field.number == 5 || field.number == 7)
            status = add_symbol(index, package, KIND_LEAF, file, field.value);
    }
    return step == STEP_BROKEN ? STATUS_INVALID : status;
}

// Appends what symbol number `at` declares.
static enum status add_members(struct descriptor_index *index, size_t at)
{
    struct symbol symbol = index->symbols[at];
    struct text scope = text_of(symbol.name);
    struct field field;
    enum step step = STEP_FIELD;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (step = take_field(&symbol.body, &field)) == STEP_FIELD) {
        bool is_leaf = symbol.kind == KIND_MESSAGE
                           ? field.number == 4 || field.number == 6
                           : symbol.kind == KIND_SERVICE && field.number == 2;
        if (symbol.kind == KIND_MESSAGE && field.number == 3)
            status = add_symbol(index, scope, KIND_MESSAGE, symbol.file, field.value);
        else if (is_leaf)
            status = add_symbol(index, scope, KIND_LEAF, symbol.file, field.value);
    }
    return step == STEP_BROKEN ? STATUS_INVALID : status;
}

enum status descriptor_index_create(const struct bytes *sets, size_t count,
                                    struct descriptor_index **out, struct reason *why)
{
    assert(sets || count == 0);
    assert(out);

    struct descriptor_index *index = mem_alloc(sizeof(*index));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct bytes rest = sets[i];
        struct field field;
        enum step step = STEP_FIELD;
        while (status == STATUS_OK && (step = take_field(&rest, &field)) == STEP_FIELD)
            if (field.number == 1)
                status = add_file(index, field.value);
        if (step == STEP_BROKEN)
            status = STATUS_INVALID;
    }
    for (size_t i = 0; i < index->symbol_count && status == STATUS_OK; i++)
        status = add_members(index, i);

    if (status != STATUS_OK) {
        descriptor_index_destroy(&index);
        return reason_set(why, status, "descriptor set",
                          "the bytes are no FileDescriptorSet of at most %d files and %d symbols",
                          DESCRIPTOR_INDEX_FILES_MAX, DESCRIPTOR_INDEX_SYMBOLS_MAX);
    }
    *out = index;
    return STATUS_OK;
}

void descriptor_index_destroy(struct descriptor_index **index)
{
    assert(index);

    if (!*index)
        return;
    for (size_t i = 0; i < (*index)->symbol_count; i++)
        mem_free((*index)->symbols[i].name);
    mem_free(*index);
    *index = NULL;
}

// --- asking

bool descriptor_index_file_named(const struct descriptor_index *index, struct text path,
                                 size_t *file)
{
    assert(index);
    assert(file);

    for (size_t i = 0; i < index->file_count; i++) {
        if (text_equal(index->files[i].path, path)) {
            *file = i;
            return true;
        }
    }
    return false;
}

bool descriptor_index_file_of(const struct descriptor_index *index, struct text symbol,
                              size_t *file)
{
    assert(index);
    assert(file);

    for (size_t i = 0; i < index->symbol_count; i++) {
        if (text_equal(text_of(index->symbols[i].name), symbol)) {
            *file = index->symbols[i].file;
            return true;
        }
    }
    return false;
}

size_t descriptor_index_with_imports(const struct descriptor_index *index, size_t file,
                                     struct bytes files[DESCRIPTOR_INDEX_FILES_MAX])
{
    assert(index && file < index->file_count);
    assert(files);

    // `order` is both the answer and the list of work.
    size_t order[DESCRIPTOR_INDEX_FILES_MAX] = {file};
    bool taken[DESCRIPTOR_INDEX_FILES_MAX] = {false};
    size_t count = 1;
    taken[file] = true;
    for (size_t i = 0; i < count; i++) {
        struct bytes rest = index->files[order[i]].body;
        files[i] = rest;
        struct field field;
        while (take_field(&rest, &field) == STEP_FIELD) {
            struct text path = {(const char *)field.value.data, field.value.count};
            size_t import;
            if (field.number == 3 && descriptor_index_file_named(index, path, &import) &&
                !taken[import]) {
                taken[import] = true;
                order[count++] = import;
            }
        }
    }
    return count;
}
