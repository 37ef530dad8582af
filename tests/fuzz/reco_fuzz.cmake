# SPDX-License-Identifier: Apache-2.0
# reco_fuzz(name source libraries...): one entry LLVMFuzzerTestOneInput, two programs.
#
#   replay_NAME  always: runs the files of corpus/NAME, with and without damage (replay.c);
#                registered as the test fuzz_NAME
#   fuzz_NAME    with RECO_FUZZ and clang: libFuzzer; start it with
#                bin/fuzz_NAME -max_total_time=600 CORPUS_COPY

# libFuzzer learns from every library of ours; the counters' other end is in the sanitizer's
# runtime, which the programs without libFuzzer need.
if(RECO_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang" OR NOT RECO_SANITIZE MATCHES "address")
        message(FATAL_ERROR "RECO_FUZZ needs clang, which has libFuzzer, and RECO_SANITIZE=address,undefined")
    endif()
    get_target_property(options reco_flags INTERFACE_COMPILE_OPTIONS)
    if(NOT "-fsanitize=fuzzer-no-link" IN_LIST options)
        target_compile_options(reco_flags INTERFACE -fsanitize=fuzzer-no-link)
    endif()
endif()

function(reco_fuzz name source)
    add_executable(replay_${name} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    target_link_libraries(replay_${name} PRIVATE ${ARGN} reco_flags reco_test_warnings)
    target_compile_definitions(replay_${name} PRIVATE RECO_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME fuzz_${name}
        COMMAND replay_${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(fuzz_${name} PROPERTIES
        FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}" TIMEOUT 300)

    if(RECO_FUZZ)
        add_executable(fuzz_${name} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/budget.c)
        target_link_libraries(fuzz_${name} PRIVATE ${ARGN} reco_flags reco_test_warnings)
        target_compile_definitions(fuzz_${name} PRIVATE RECO_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer -Wl,--wrap=LLVMFuzzerTestOneInput)
    endif()
endfunction()
