# SPDX-License-Identifier: Apache-2.0
# proto/rpc as clients in other languages see it.

reco_program(rpc_echo_server rpc_echo_server.c)
target_link_libraries(rpc_echo_server PRIVATE rpc_echo)

reco_script(rpc_interop ${RECO_GRPC_PYTHON} rpc_interop.py --spawn $<TARGET_FILE:rpc_echo_server>)
