# SPDX-License-Identifier: Apache-2.0
reco_test(test_ops test_ops.c reco_ops reco_reference)
reco_test(test_dense test_dense.c reco_cpu reco_reference)
reco_test(test_kernels test_kernels.c reco_cpu)
reco_test(test_weights test_weights.c reco_models reco_test_support)
reco_test(test_clip test_clip.c reco_models)
reco_test(test_clip_config test_clip_config.c reco_models)
reco_test(test_clip_small test_clip_small.c reco_models reco_reference_clip reco_test_support)
