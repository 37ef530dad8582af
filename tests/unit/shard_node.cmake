reco_test(test_distance test_distance.c reco_shard_node)
reco_test(test_scan test_scan.c reco_shard_node)
reco_test(test_rows test_rows.c reco_shard_node)
