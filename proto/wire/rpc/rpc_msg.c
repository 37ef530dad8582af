// SPDX-License-Identifier: Apache-2.0
// Decoding goes through protobuf-c with an allocator that takes from an arena: a hostile message
// can spend the arena's budget and nothing else, and nothing needs to be freed one by one.
// protobuf-c wants NUL-terminated texts, so texts to encode are copied into the arena.

#include "proto/wire/rpc/rpc_msg.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include <protobuf-c/protobuf-c.h>
#include <wire/rpc_error_details.pb-c.h>
#include <wire/rpc_health.pb-c.h>
#include <wire/rpc_reflection.pb-c.h>
#include <wire/rpc_status.pb-c.h>

#define TYPE_PREFIX "type.googleapis.com/google.rpc."
#define US_PER_SECOND 1000000
#define NS_PER_US 1000

extern const uint8_t rpc_msg_descriptors[]; // made by the build
extern const size_t rpc_msg_descriptors_bytes;

// --- protobuf-c and arenas

static void *allocate(void *arena, size_t bytes)
{
    return arena_alloc(arena, bytes);
}

static void leave_to_arena(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer;
}

// NULL, with the reason, when `message` is no message of this type.
static void *unpack(const ProtobufCMessageDescriptor *type, struct arena *arena,
                    struct bytes message, struct reason *why)
{
    if (message.count > RPC_MSG_BYTES_MAX) {
        (void)reason_set(why, STATUS_INVALID, NULL, "%s of %zu bytes; at most %d are allowed",
                         type->name, message.count, RPC_MSG_BYTES_MAX);
        return NULL;
    }

    ProtobufCAllocator allocator = {allocate, leave_to_arena, arena};
    void *found = protobuf_c_message_unpack(type, &allocator, message.count, message.data);
    if (!found)
        (void)reason_set(why, STATUS_INVALID, NULL, "%zu bytes that are no %s", message.count,
                         type->name);
    return found;
}

static enum status pack(const ProtobufCMessage *message, struct buffer *out)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    enum status status = buffer_reserve(out, bytes);
    if (status != STATUS_OK)
        return status;

    if (bytes > 0)
        out->count += protobuf_c_message_pack(message, out->data + out->count);
    return STATUS_OK;
}

// protobuf-c does not check that texts are UTF-8; proto3 demands it.
static enum status check_text(const char *text, const char *field, struct reason *why)
{
    if (!bytes_is_utf8(text, strlen(text)))
        return reason_set(why, STATUS_INVALID, field, "the text is not UTF-8");
    return STATUS_OK;
}

// A copy that is surely UTF-8 and NUL-terminated; NULL when the budget is spent.
static char *clean_copy(struct arena *arena, struct text text)
{
    if (text.bytes == 0)
        return arena_copy_text(arena, "", 0);

    char *copy = arena_copy_text(arena, text.data, text.bytes);
    if (!copy || bytes_is_utf8(text.data, text.bytes))
        return copy;

    for (size_t i = 0; i < text.bytes; i++)
        if ((unsigned char)copy[i] > 127)
            copy[i] = '?';
    return copy;
}

// --- grpc.health.v1

enum status rpc_msg_encode_health_request(struct text service, struct buffer *out)
{
    assert(out);

    struct arena *arena = arena_create(RPC_MSG_BYTES_MAX);
    Grpc__Health__V1__HealthCheckRequest message;
    grpc__health__v1__health_check_request__init(&message);
    message.service = clean_copy(arena, service);
    enum status status = message.service ? pack(&message.base, out) : STATUS_NO_MEMORY;
    arena_destroy(&arena);
    return status;
}

enum status rpc_msg_decode_health_request(struct arena *arena, struct bytes message,
                                          struct text *service, struct reason *why)
{
    assert(arena);
    assert(service);

    const Grpc__Health__V1__HealthCheckRequest *found =
        unpack(&grpc__health__v1__health_check_request__descriptor, arena, message, why);
    if (!found)
        return STATUS_INVALID;

    enum status status = check_text(found->service, "service", why);
    if (status == STATUS_OK)
        *service = text_of(found->service);
    return status;
}

enum status rpc_msg_encode_health_reply(enum rpc_msg_serving serving, struct buffer *out)
{
    assert(out);

    Grpc__Health__V1__HealthCheckResponse message;
    grpc__health__v1__health_check_response__init(&message);
    message.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)serving;
    return pack(&message.base, out);
}

enum status rpc_msg_decode_health_reply(struct arena *arena, struct bytes message,
                                        enum rpc_msg_serving *serving, struct reason *why)
{
    assert(arena);
    assert(serving);

    const Grpc__Health__V1__HealthCheckResponse *found =
        unpack(&grpc__health__v1__health_check_response__descriptor, arena, message, why);
    if (!found)
        return STATUS_INVALID;

    int number = (int)found->status;
    bool known = number >= RPC_MSG_SERVING_UNKNOWN && number <= RPC_MSG_SERVICE_UNKNOWN;
    *serving = known ? (enum rpc_msg_serving)number : RPC_MSG_SERVING_UNKNOWN;
    return STATUS_OK;
}

// --- grpc.reflection

#define ASKED(name) GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWERED(name)                                                                             \
    GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

// Fills `message` from `request`; STATUS_NO_MEMORY when the arena is spent.
static enum status fill_request(struct arena *arena,
                                const struct rpc_msg_reflection_request *request,
                                Grpc__Reflection__V1alpha__ServerReflectionRequest *message)
{
    grpc__reflection__v1alpha__server_reflection_request__init(message);
    message->host = clean_copy(arena, request->host);
    char *name = clean_copy(arena, request->name);
    Grpc__Reflection__V1alpha__ExtensionRequest *extension = arena_zero(arena, sizeof(*extension));
    if (!message->host || !name || !extension)
        return STATUS_NO_MEMORY;

    switch (request->question) {
    case RPC_MSG_ASK_NOTHING:
        break;
    case RPC_MSG_ASK_FILE_BY_NAME:
        message->message_request_case = ASKED(FILE_BY_FILENAME);
        message->file_by_filename = name;
        break;
    case RPC_MSG_ASK_FILE_OF_SYMBOL:
        message->message_request_case = ASKED(FILE_CONTAINING_SYMBOL);
        message->file_containing_symbol = name;
        break;
    case RPC_MSG_ASK_EXTENSION:
        grpc__reflection__v1alpha__extension_request__init(extension);
        extension->containing_type = name;
        extension->extension_number = request->extension_number;
        message->message_request_case = ASKED(FILE_CONTAINING_EXTENSION);
        message->file_containing_extension = extension;
        break;
    case RPC_MSG_ASK_EXTENSION_NUMBERS:
        message->message_request_case = ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE);
        message->all_extension_numbers_of_type = name;
        break;
    case RPC_MSG_ASK_SERVICES:
        message->message_request_case = ASKED(LIST_SERVICES);
        message->list_services = name;
        break;
    }
    return STATUS_OK;
}

enum status rpc_msg_encode_reflection_request(const struct rpc_msg_reflection_request *request,
                                              struct buffer *out)
{
    assert(request);
    assert(out);

    struct arena *arena = arena_create(2 * (size_t)RPC_MSG_BYTES_MAX);
    Grpc__Reflection__V1alpha__ServerReflectionRequest message;
    enum status status = fill_request(arena, request, &message);
    if (status == STATUS_OK)
        status = pack(&message.base, out);
    arena_destroy(&arena);
    return status;
}

enum status rpc_msg_decode_reflection_request(struct arena *arena, struct bytes message,
                                              struct rpc_msg_reflection_request *request,
                                              struct reason *why)
{
    assert(arena);
    assert(request);

    const Grpc__Reflection__V1alpha__ServerReflectionRequest *found = unpack(
        &grpc__reflection__v1alpha__server_reflection_request__descriptor, arena, message, why);
    if (!found)
        return STATUS_INVALID;

    struct rpc_msg_reflection_request asked = {.question = RPC_MSG_ASK_NOTHING};
    const char *name = "";
    int kind = (int)found->message_request_case; // from the wire, so no enum yet
    if (kind == ASKED(FILE_BY_FILENAME)) {
        asked.question = RPC_MSG_ASK_FILE_BY_NAME;
        name = found->file_by_filename;
    } else if (kind == ASKED(FILE_CONTAINING_SYMBOL)) {
        asked.question = RPC_MSG_ASK_FILE_OF_SYMBOL;
        name = found->file_containing_symbol;
    } else if (kind == ASKED(FILE_CONTAINING_EXTENSION)) {
        asked.question = RPC_MSG_ASK_EXTENSION;
        name = found->file_containing_extension->containing_type;
        asked.extension_number = found->file_containing_extension->extension_number;
    } else if (kind == ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE)) {
        asked.question = RPC_MSG_ASK_EXTENSION_NUMBERS;
        name = found->all_extension_numbers_of_type;
    } else if (kind == ASKED(LIST_SERVICES)) {
        asked.question = RPC_MSG_ASK_SERVICES;
        name = found->list_services;
    }

    enum status status = check_text(found->host, "host", why);
    if (status == STATUS_OK)
        status = check_text(name, "message_request", why);
    if (status != STATUS_OK)
        return status;

    asked.host = text_of(found->host);
    asked.name = text_of(name);
    *request = asked;
    return STATUS_OK;
}

// Fills a list of files; NULL when the arena is spent.
static Grpc__Reflection__V1alpha__FileDescriptorResponse *
fill_files(struct arena *arena, const struct bytes *files, size_t count)
{
    Grpc__Reflection__V1alpha__FileDescriptorResponse *list = arena_zero(arena, sizeof(*list));
    ProtobufCBinaryData *members = arena_alloc_array(arena, count, sizeof(*members));
    if (!list || !members)
        return NULL;

    grpc__reflection__v1alpha__file_descriptor_response__init(list);
    for (size_t i = 0; i < count; i++) {
        members[i].len = files[i].count;
        // Packing only reads, but protobuf-c has no const there.
        memcpy(&members[i].data, &files[i].data, sizeof(files[i].data));
    }
    list->n_file_descriptor_proto = count;
    list->file_descriptor_proto = members;
    return list;
}

// Fills a list of services; NULL when the arena is spent.
static Grpc__Reflection__V1alpha__ListServiceResponse *
fill_services(struct arena *arena, const struct text *services, size_t count)
{
    Grpc__Reflection__V1alpha__ListServiceResponse *list = arena_zero(arena, sizeof(*list));
    Grpc__Reflection__V1alpha__ServiceResponse *members =
        arena_alloc_array(arena, count, sizeof(*members));
    Grpc__Reflection__V1alpha__ServiceResponse **pointers =
        arena_alloc_array(arena, count, sizeof(void *));
    if (!list || !members || !pointers)
        return NULL;

    grpc__reflection__v1alpha__list_service_response__init(list);
    for (size_t i = 0; i < count; i++) {
        grpc__reflection__v1alpha__service_response__init(&members[i]);
        members[i].name = clean_copy(arena, services[i]);
        if (!members[i].name)
            return NULL;
        pointers[i] = &members[i];
    }
    list->n_service = count;
    list->service = pointers;
    return list;
}

enum status rpc_msg_encode_reflection_reply(struct arena *arena,
                                            const struct rpc_msg_reflection_reply *reply,
                                            struct buffer *out)
{
    assert(arena);
    assert(reply && reply->request);
    assert(out);

    Grpc__Reflection__V1alpha__ServerReflectionRequest request;
    enum status status = fill_request(arena, reply->request, &request);
    if (status != STATUS_OK)
        return status;

    Grpc__Reflection__V1alpha__ServerReflectionResponse message;
    grpc__reflection__v1alpha__server_reflection_response__init(&message);
    message.valid_host = request.host;
    message.original_request = &request;

    Grpc__Reflection__V1alpha__ErrorResponse error;
    grpc__reflection__v1alpha__error_response__init(&error);
    if (reply->error_code != 0) {
        error.error_code = reply->error_code;
        error.error_message = clean_copy(arena, text_of(reply->error_message));
        if (!error.error_message)
            return STATUS_NO_MEMORY;
        message.message_response_case = ANSWERED(ERROR_RESPONSE);
        message.error_response = &error;
    } else if (reply->file_count > 0) {
        message.message_response_case = ANSWERED(FILE_DESCRIPTOR_RESPONSE);
        message.file_descriptor_response = fill_files(arena, reply->files, reply->file_count);
        if (!message.file_descriptor_response)
            return STATUS_NO_MEMORY;
    } else {
        message.message_response_case = ANSWERED(LIST_SERVICES_RESPONSE);
        message.list_services_response =
            fill_services(arena, reply->services, reply->service_count);
        if (!message.list_services_response)
            return STATUS_NO_MEMORY;
    }
    return pack(&message.base, out);
}

struct bytes rpc_msg_descriptor_set(void)
{
    return (struct bytes){rpc_msg_descriptors, rpc_msg_descriptors_bytes};
}

// --- google.rpc

// The details of one Status while it is put together.
struct detail_list {
    Google__Protobuf__Any members[RPC_MSG_DETAILS_MAX];
    Google__Protobuf__Any *pointers[RPC_MSG_DETAILS_MAX];
    size_t count;
};

static enum status add_detail(struct arena *arena, struct detail_list *list, const char *type,
                              const ProtobufCMessage *message)
{
    assert(list->count < RPC_MSG_DETAILS_MAX);

    size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(arena, bytes);
    char *type_url = arena_copy_text(arena, type, strlen(type));
    if (!packed || !type_url)
        return STATUS_NO_MEMORY;
    (void)protobuf_c_message_pack(message, packed);

    Google__Protobuf__Any *any = &list->members[list->count];
    google__protobuf__any__init(any);
    any->type_url = type_url;
    any->value = (ProtobufCBinaryData){bytes, packed};
    list->pointers[list->count++] = any;
    return STATUS_OK;
}

static enum status add_error_info(struct arena *arena, struct detail_list *list,
                                  const struct rpc_msg_status *details)
{
    Google__Rpc__ErrorInfo info;
    google__rpc__error_info__init(&info);
    info.reason = clean_copy(arena, details->reason);
    info.domain = clean_copy(arena, details->domain);
    if (!info.reason || !info.domain)
        return STATUS_NO_MEMORY;
    return add_detail(arena, list, TYPE_PREFIX "ErrorInfo", &info.base);
}

static enum status add_bad_request(struct arena *arena, struct detail_list *list,
                                   const struct rpc_msg_status *details)
{
    Google__Rpc__BadRequest__FieldViolation violation;
    google__rpc__bad_request__field_violation__init(&violation);
    violation.field = clean_copy(arena, details->field);
    violation.description = clean_copy(arena, details->violation);
    if (!violation.field || !violation.description)
        return STATUS_NO_MEMORY;

    Google__Rpc__BadRequest__FieldViolation *one[] = {&violation};
    Google__Rpc__BadRequest request;
    google__rpc__bad_request__init(&request);
    request.n_field_violations = 1;
    request.field_violations = one;
    return add_detail(arena, list, TYPE_PREFIX "BadRequest", &request.base);
}

static enum status add_retry_info(struct arena *arena, struct detail_list *list, int64_t retry_us)
{
    Google__Protobuf__Duration delay;
    google__protobuf__duration__init(&delay);
    delay.seconds = retry_us / US_PER_SECOND;
    delay.nanos = (int32_t)(retry_us % US_PER_SECOND * NS_PER_US);

    Google__Rpc__RetryInfo info;
    google__rpc__retry_info__init(&info);
    info.retry_delay = &delay;
    return add_detail(arena, list, TYPE_PREFIX "RetryInfo", &info.base);
}

enum status rpc_msg_encode_status(struct arena *arena, const struct rpc_msg_status *details,
                                  struct buffer *out)
{
    assert(arena);
    assert(details && details->retry_us >= 0);
    assert(out);

    struct detail_list list = {.count = 0};
    enum status status = STATUS_OK;
    if (details->reason.bytes > 0)
        status = add_error_info(arena, &list, details);
    if (status == STATUS_OK && details->field.bytes > 0)
        status = add_bad_request(arena, &list, details);
    if (status == STATUS_OK && details->retry_us > 0)
        status = add_retry_info(arena, &list, details->retry_us);
    if (status != STATUS_OK)
        return status;

    Google__Rpc__Status message;
    google__rpc__status__init(&message);
    message.code = details->code;
    message.message = clean_copy(arena, details->message);
    if (!message.message)
        return STATUS_NO_MEMORY;
    message.n_details = list.count;
    message.details = list.pointers;
    return pack(&message.base, out);
}

// Reads one detail into `details`; one of an unknown type, or a broken one, is passed over, because
// a client can still tell the rest.
static void read_detail(struct arena *arena, const Google__Protobuf__Any *any,
                        struct rpc_msg_status *details)
{
    struct bytes value = {any->value.data, any->value.len};

    if (strcmp(any->type_url, TYPE_PREFIX "ErrorInfo") == 0) {
        const Google__Rpc__ErrorInfo *info =
            unpack(&google__rpc__error_info__descriptor, arena, value, NULL);
        if (!info || check_text(info->reason, "", NULL) != STATUS_OK ||
            check_text(info->domain, "", NULL) != STATUS_OK)
            return;
        details->reason = text_of(info->reason);
        details->domain = text_of(info->domain);
    } else if (strcmp(any->type_url, TYPE_PREFIX "BadRequest") == 0) {
        const Google__Rpc__BadRequest *request =
            unpack(&google__rpc__bad_request__descriptor, arena, value, NULL);
        if (!request || request->n_field_violations == 0)
            return;
        const Google__Rpc__BadRequest__FieldViolation *first = request->field_violations[0];
        if (check_text(first->field, "", NULL) != STATUS_OK ||
            check_text(first->description, "", NULL) != STATUS_OK)
            return;
        details->field = text_of(first->field);
        details->violation = text_of(first->description);
    } else if (strcmp(any->type_url, TYPE_PREFIX "RetryInfo") == 0) {
        const Google__Rpc__RetryInfo *info =
            unpack(&google__rpc__retry_info__descriptor, arena, value, NULL);
        if (!info || !info->retry_delay)
            return;
        int64_t seconds = info->retry_delay->seconds;
        int32_t nanos = info->retry_delay->nanos;
        if (seconds >= 0 && seconds <= INT32_MAX && nanos >= 0)
            details->retry_us = seconds * US_PER_SECOND + nanos / NS_PER_US;
    }
}

enum status rpc_msg_decode_status(struct arena *arena, struct bytes message,
                                  struct rpc_msg_status *details, struct reason *why)
{
    assert(arena);
    assert(details);

    const Google__Rpc__Status *found =
        unpack(&google__rpc__status__descriptor, arena, message, why);
    if (!found)
        return STATUS_INVALID;

    enum status status = check_text(found->message, "message", why);
    if (status != STATUS_OK)
        return status;

    struct rpc_msg_status read = {.code = found->code, .message = text_of(found->message)};
    for (size_t i = 0; i < found->n_details && i < RPC_MSG_DETAILS_MAX; i++)
        read_detail(arena, found->details[i], &read);
    *details = read;
    return STATUS_OK;
}
