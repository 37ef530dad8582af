// SPDX-License-Identifier: Apache-2.0
// topk.glsl - neighbours as pairs of numbers that are compared as unsigned numbers.
//
// x is the score, turned so that a greater one is a greater number (a NaN is the least); y is
// the row. Of equal scores the lower row is ahead, so the order is the same everywhere.

#define NO_NEIGHBOUR uvec2(0u, 0xffffffffu) // behind every row

uint key_of_score(float score)
{
    uint bits = floatBitsToUint(score);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 1u;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

float score_of_key(uint key)
{
    return uintBitsToFloat((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

bool is_ahead(uvec2 a, uvec2 b) { return a.x > b.x || (a.x == b.x && a.y < b.y); }
