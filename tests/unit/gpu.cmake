# SPDX-License-Identifier: Apache-2.0
# Tests on a Vulkan device: the machine's first usable one, software included. Exit 77 without one.
reco_test(test_gpu test_gpu.c reco_gpu reco_test_vulkan)
reco_test_is_vulkan(test_gpu RECO_TEST_DEVICE=vulkan)
