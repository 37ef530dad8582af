# SPDX-License-Identifier: Apache-2.0
reco_test(test_golden_clip_tiny test_golden_clip_tiny.c reco_models reco_image reco_reference_clip reco_test_support reco_test_vulkan)
reco_test_on_vulkan(test_golden_clip_tiny)
reco_test(test_golden_fusion test_golden_fusion.c reco_models)
# Models of full size: 1.3 and 0.8 GB of memory.
foreach(model b32 l14-2)
    reco_test(test_golden_clip_${model} test_golden_clip_random.c reco_models reco_image reco_reference_clip reco_test_support reco_test_vulkan)
    target_compile_definitions(test_golden_clip_${model} PRIVATE GOLDEN="random-${model}")
    # A software device takes as much again, which sanitizers see nothing of.
    if(NOT RECO_SANITIZE)
        reco_test_on_vulkan(test_golden_clip_${model})
    endif()
endforeach()
if(NOT RECO_SANITIZE)
    # reco-tiny's weights are halves already, these are not.
    add_test(NAME test_golden_clip_l14-2_vulkan_half COMMAND test_golden_clip_l14-2 --jobs 2)
    reco_test_is_vulkan(test_golden_clip_l14-2_vulkan_half RECO_TEST_DEVICE=vulkan RECO_GPU=half)
endif()
# The ONNX project's vectors, of Debian's libonnx-testdata.
reco_test(test_golden_onnx test_golden_onnx.c reco_ops reco_reference reco_test_vulkan)
set_tests_properties(test_golden_onnx PROPERTIES SKIP_RETURN_CODE 77)
reco_test_on_vulkan(test_golden_onnx)
