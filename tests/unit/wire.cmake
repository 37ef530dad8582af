# SPDX-License-Identifier: Apache-2.0
# Tests of the messages: limits and scanner, the public ones, those between coordinator and node.
reco_test(test_wire_limits test_wire_limits.c reco_wire reco_wire_generated)
reco_test(test_api_msg test_api_msg.c reco_wire reco_wire_generated)
reco_test(test_api_query test_api_query.c reco_wire reco_wire_generated)
reco_test(test_api_hostile test_api_hostile.c reco_wire reco_wire_generated)
reco_test(test_api_effort test_api_effort.c reco_wire)
reco_test(test_api_stream test_api_stream.c reco_wire reco_wire_generated)
reco_test(test_api_lookup test_api_lookup.c reco_wire reco_wire_generated)
reco_test(test_shard_msg test_shard_msg.c reco_wire reco_wire_generated)
reco_test(test_packed test_packed.c reco_wire)
