# The coordinator's pure modules.
reco_test(test_merge test_merge.c reco_coordinator)
reco_test(test_placement test_placement.c reco_coordinator)
reco_test(test_datadir test_datadir.c reco_coordinator)
reco_test(test_meta test_meta.c reco_coordinator)
