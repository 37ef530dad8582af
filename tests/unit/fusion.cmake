# SPDX-License-Identifier: Apache-2.0
reco_test(test_fusion test_fusion.c reco_models)
reco_test(test_fusion_gate test_fusion_gate.c reco_models)
reco_test(test_fuser test_fuser.c reco_coordinator)
reco_test(test_fusion_head test_fusion_head.c reco_models reco_reference_clip reco_test_head)
reco_test(test_fusion_head_file test_fusion_head_file.c reco_models reco_test_head)
reco_test(test_fusion_train test_fusion_train.c reco_models reco_reference_clip reco_test_head)
