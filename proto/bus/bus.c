// SPDX-License-Identifier: Apache-2.0
// A bus is a ZeroMQ context; with keys also its ZAP handler.

#include "proto/bus/bus.h"

#include <assert.h>

#include <zmq.h>

#include "proto/base/mem.h"
#include "proto/bus/bus_internal.h"

enum status bus_open(const struct bus_keys *keys, struct bus **out, struct reason *why)
{
    assert(out);

    struct bus *bus = mem_alloc(sizeof(*bus));
    atomic_init(&bus->next_monitor, 0);
    bus->context = zmq_ctx_new();
    if (!bus->context) {
        mem_free(bus);
        return reason_set(why, STATUS_EXHAUSTED, NULL, "no ZeroMQ context: %s",
                          zmq_strerror(zmq_errno()));
    }

    enum status status = STATUS_OK;
    if (keys) {
        bus->has_keys = true;
        bus->keys = *keys;
        status = bus_zap_start(bus->context, keys->coordinator_public, &bus->zap, why);
        if (status == STATUS_OK)
            status = bus_zap_test(bus->context, bus->zap, why);
    }
    if (status != STATUS_OK) {
        bus_close(&bus);
        return status;
    }
    *out = bus;
    return STATUS_OK;
}

enum status bus_allow(struct bus *bus, const char *const *keys, size_t count, struct reason *why)
{
    assert(bus && bus->zap && keys);

    return bus_zap_allow(bus->zap, keys, count, why);
}

void bus_close(struct bus **bus)
{
    assert(bus);

    if (!*bus)
        return;
    bus_zap_stop(&(*bus)->zap);
    (void)zmq_ctx_term((*bus)->context);
    mem_free(*bus);
    *bus = NULL;
}
