# SPDX-License-Identifier: Apache-2.0
# proto/rpc as clients in other languages see it.

reco_program(rpc_echo_server rpc_echo_server.c)
target_link_libraries(rpc_echo_server PRIVATE rpc_echo)

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
    # Skipped where python has no grpc module.
    add_test(NAME rpc_interop
        COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/rpc_interop.py
            --spawn $<TARGET_FILE:rpc_echo_server>)
    set_tests_properties(rpc_interop PROPERTIES
        SKIP_RETURN_CODE 77 FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}" TIMEOUT 120)
endif()
