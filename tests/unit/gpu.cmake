# SPDX-License-Identifier: Apache-2.0
# Tests on a Vulkan device: the machine's first usable one, software included. Exit 77 without one.
reco_test(test_gpu test_gpu.c reco_gpu reco_test_vulkan)
reco_test_is_vulkan(test_gpu RECO_TEST_DEVICE=vulkan)
# Without the validation layer: the device is opened many times, or made to do what it should not.
foreach(name test_gpu_canary test_gpu_clip_faults)
    reco_test(${name} ${name}.c reco_models reco_gpu reco_kernels reco_test_support reco_test_vulkan)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
        ENVIRONMENT "XDG_CACHE_HOME=${RECO_TEST_CACHE};RECO_TEST_DEVICE=vulkan;ASAN_OPTIONS=detect_leaks=0")
endforeach()
reco_test(test_gpu_cache test_gpu_cache.c reco_gpu)
