# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
reco_fuzz(store fuzz_store.c reco_shard_node)
reco_fuzz(index_file fuzz_index_file.c reco_shard_node)
