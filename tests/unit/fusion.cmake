# SPDX-License-Identifier: Apache-2.0
reco_test(test_fusion test_fusion.c reco_models)
reco_test(test_fuser test_fuser.c reco_coordinator)
