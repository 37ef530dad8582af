# SPDX-License-Identifier: Apache-2.0
# Tests on a Vulkan device: the machine's first usable one, software included. Exit 77 without one.
reco_test(test_gpu test_gpu.c reco_gpu)
set_tests_properties(test_gpu PROPERTIES SKIP_RETURN_CODE 77)
