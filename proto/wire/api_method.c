// SPDX-License-Identifier: Apache-2.0
// The table of methods, and the descriptors that the build embeds.

#include <assert.h>

#include "proto/wire/api.h"

extern const uint8_t reco_api_descriptors[]; // made by the build
extern const size_t reco_api_descriptors_bytes;

#define METHOD_INFO(name, service, method, client, server)                                         \
    [API_##name] = {service, method, "/" service "/" method, client, server},
static const struct api_method_info methods[API_METHOD_COUNT] = {API_METHODS(METHOD_INFO)};
#undef METHOD_INFO

const struct api_method_info *api_method_info(enum api_method method)
{
    assert((unsigned)method < API_METHOD_COUNT);

    return &methods[method];
}

struct bytes api_descriptor_set(void)
{
    return (struct bytes){reco_api_descriptors, reco_api_descriptors_bytes};
}
