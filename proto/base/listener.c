// SPDX-License-Identifier: Apache-2.0

#include "proto/base/listener.h"

#include <assert.h>

enum status listener_check(const struct listener *listener, struct reason *why)
{
    assert(listener && listener->address && listener->way_out);

    if (listener->loopback || (listener->encrypted && listener->authenticated))
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, listener->field,
                      "%.100s can be reached from other machines, which needs encryption%s and "
                      "clients that show who they are%s; allowed are 127.0.0.1, [::1] and "
                      "localhost, %s",
                      listener->address, listener->encrypted ? "" : " (there is none)",
                      listener->authenticated ? "" : " (they do not)", listener->way_out);
}
