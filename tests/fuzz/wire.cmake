# SPDX-License-Identifier: Apache-2.0
# The messages: public ones, and those between coordinator and node.
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
reco_fuzz(api fuzz_api.c reco_wire)
reco_fuzz(shard_msg fuzz_shard_msg.c reco_wire)
reco_fuzz(api_json fuzz_api_json.c reco_wire)
reco_fuzz(packed fuzz_packed.c reco_wire)
