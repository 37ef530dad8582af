# SPDX-License-Identifier: Apache-2.0
add_library(reco_kill_house STATIC kill_house.c)
target_link_libraries(reco_kill_house PUBLIC reco_bus reco_flags
    PRIVATE reco_test_warnings reco_test_relaxed PkgConfig::CRITERION)
target_compile_definitions(reco_kill_house PRIVATE RECO_BINARY_DIR="${PROJECT_BINARY_DIR}")

reco_test(test_node_kill test_node_kill.c reco_kill_house)
add_dependencies(test_node_kill reco-shard)
reco_test(test_node_kill_index test_node_kill_index.c reco_kill_house)
add_dependencies(test_node_kill_index reco-shard)
reco_test(test_node_program test_node_program.c reco_bus)
add_dependencies(test_node_program reco-shard)
