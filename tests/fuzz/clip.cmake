# SPDX-License-Identifier: Apache-2.0
if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/reco_fuzz.cmake)
    include(${CMAKE_CURRENT_SOURCE_DIR}/reco_fuzz.cmake)
    reco_fuzz(weights fuzz_weights.c reco_models)
endif()
reco_fuzz(clip_openclip fuzz_clip_openclip.c reco_models)
reco_fuzz(gpu_cache fuzz_gpu_cache.c reco_gpu)
reco_fuzz(fusion_head fuzz_fusion_head.c reco_models)
reco_fuzz(fusion_gate fuzz_fusion_gate.c reco_models)
