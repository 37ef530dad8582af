# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
reco_fuzz(snapshot fuzz_snapshot.c reco_coordinator)
reco_fuzz(meta fuzz_meta.c reco_coordinator)
