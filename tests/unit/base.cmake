# SPDX-License-Identifier: Apache-2.0
reco_test(test_address test_address.c reco_base)
reco_test(test_metrics test_metrics.c reco_base)
reco_test(test_status test_status.c reco_base)
reco_test(test_half test_half.c reco_base)
reco_test(test_hash test_hash.c reco_base)
reco_test(test_ids test_ids.c reco_base)
reco_test(test_embedding test_embedding.c reco_base)
reco_test(test_mem test_mem.c reco_base)
reco_test(test_bytes test_bytes.c reco_base)
reco_test(test_cache_file test_cache_file.c reco_base)
reco_test(test_json test_json.c reco_base)
reco_test(test_json_writer test_json_writer.c reco_base)
reco_test(test_thread test_thread.c reco_base)
reco_test(test_parallel test_parallel.c reco_base)
reco_test(test_config test_config.c reco_base)
reco_test(test_program test_program.c reco_base)
reco_test(test_log test_log.c reco_base)
reco_test(test_trace test_trace.c reco_base)

# The check of the code's shape is itself checked.
add_test(NAME layers_selftest
    COMMAND ${CMAKE_COMMAND} -DSCRATCH=${CMAKE_CURRENT_BINARY_DIR}/layers
            -P ${CMAKE_SOURCE_DIR}/tests/layers_selftest.cmake)
set_tests_properties(layers_selftest PROPERTIES TIMEOUT 120)
