reco_test(test_fusion test_fusion.c reco_models)
