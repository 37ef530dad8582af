# SPDX-License-Identifier: Apache-2.0
reco_test(test_node_kill test_node_kill.c reco_bus)
add_dependencies(test_node_kill reco-shard)
reco_test(test_node_program test_node_program.c reco_bus)
add_dependencies(test_node_program reco-shard)
