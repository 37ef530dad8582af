# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_SOURCE_DIR}/reco_fuzz.cmake)
reco_fuzz(json fuzz_json.c reco_base)
reco_fuzz(config fuzz_config.c reco_base)
reco_fuzz(trace fuzz_trace.c reco_base)
