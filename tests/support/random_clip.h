// SPDX-License-Identifier: Apache-2.0
// random_clip.h - CLIP weights of full size made from a seed, the same bits as the
// Python program that made the goldens, so that no large file need be kept.
//
//     mix(z):       z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9
//                   z = (z ^ z >> 27) * 0x94d049bb133111eb
//                   z ^ z >> 31                                   (modulo 2^64)
//     seed(tensor)  = mix(fnv1a64(its name) ^ 20240229)
//     raw(i)        = mix(seed + (i + 1) * 0x9e3779b97f4a7c15) >> 40
//     value(i)      = base + (float)(raw(i) - 8388608) * step
//     step          = (float)(sqrt(3) * deviation / 8388608)
//
// The product and the sum are rounded to float each. Base and deviation follow from
// the end of the name; see random_clip.c.
//
// For tests: every problem ends the program with a message.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_RANDOM_CLIP_H
#define RECO_TESTS_SUPPORT_RANDOM_CLIP_H

#include "proto/base/bytes.h"

// Makes the safetensors file of the model that `folder` describes with config.json and
// golden.json, and checks every tensor against its SHA-256 there. The caller frees
// out->data with mem_free().
void random_clip_make(const char *folder, struct buffer *out);

#endif
