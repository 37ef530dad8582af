# SPDX-License-Identifier: Apache-2.0
# Messages of gRPC's own services.
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
reco_fuzz(rpc_msg fuzz_rpc_msg.c reco_wire_rpc)
