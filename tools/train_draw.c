// SPDX-License-Identifier: Apache-2.0
// Numbers are drawn by splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014).

#include "tools/train_draw.h"

#include "proto/base/hash.h"

static uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t train_draw_begin(uint64_t seed, enum train_draw_what what, uint64_t number)
{
    const uint64_t all[3] = {seed, what, number};
    return hash_id(all, sizeof(all));
}

double train_draw_unit(uint64_t *state)
{
    return (double)(draw(state) >> 11) * 0x1p-53;
}

bool train_draw_share(uint64_t *state, double share)
{
    return share > 0 && train_draw_unit(state) < share;
}

uint32_t train_draw_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((draw(state) >> 32) * bound >> 32);
}

void train_draw_shuffle(uint64_t state, uint32_t *list, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t other = train_draw_below(&state, i);
        const uint32_t kept = list[i - 1];
        list[i - 1] = list[other];
        list[other] = kept;
    }
}
