# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
add_library(reco_fuzz_scratch STATIC scratch.c)
target_link_libraries(reco_fuzz_scratch PRIVATE reco_flags reco_test_warnings)
reco_fuzz(snapshot fuzz_snapshot.c reco_fuzz_scratch reco_coordinator)
reco_fuzz(encoder_msg fuzz_encoder_msg.c reco_encoder_worker)
reco_fuzz(meta fuzz_meta.c reco_fuzz_scratch reco_coordinator)
