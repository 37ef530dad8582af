# SPDX-License-Identifier: Apache-2.0
# Tests of proto/rpc and of its messages in proto/wire/rpc.

find_program(PROTOC protoc REQUIRED)
set(rpc_echo_made ${CMAKE_CURRENT_BINARY_DIR}/rpc_echo_descriptors)
add_custom_command(
    OUTPUT ${rpc_echo_made}.c
    COMMAND ${PROTOC} --include_imports --descriptor_set_out=${rpc_echo_made}.bin
        -I${CMAKE_CURRENT_SOURCE_DIR} rpc_echo.proto
    COMMAND ${CMAKE_COMMAND} -DINPUT=${rpc_echo_made}.bin -DOUTPUT=${rpc_echo_made}.c
        -DNAME=rpc_echo_descriptors -P ${CMAKE_SOURCE_DIR}/proto/wire/rpc/embed_bytes.cmake
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/rpc_echo.proto
        ${CMAKE_SOURCE_DIR}/proto/wire/rpc/embed_bytes.cmake
    VERBATIM)

# A server with its owner thread, for the tests here and in tests/e2e.
reco_library(rpc_echo rpc_echo.c ${rpc_echo_made}.c)
target_link_libraries(rpc_echo PUBLIC reco_rpc)

reco_test(test_rpc_msg test_rpc_msg.c reco_wire_rpc)
reco_test(test_rpc_calls test_rpc_calls.c rpc_echo)
reco_test(test_rpc_owner test_rpc_owner.c reco_rpc)
reco_test(test_rpc_hostile test_rpc_hostile.c rpc_echo)
