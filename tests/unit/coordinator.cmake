# SPDX-License-Identifier: Apache-2.0
# The coordinator's pure modules. Those that need nodes are in tests/e2e.
reco_test(test_candidates test_candidates.c reco_coordinator)
reco_test(test_compute test_compute.c reco_coordinator)
target_link_options(test_compute PRIVATE -Wl,--wrap=clip_encode_texts,--wrap=clip_encode_pictures,--wrap=clock_now_us)
reco_test(test_merge test_merge.c reco_coordinator)
reco_test(test_placement test_placement.c reco_coordinator)
reco_test(test_datadir test_datadir.c reco_coordinator)
reco_test(test_meta test_meta.c reco_coordinator)
reco_test(test_timers test_timers.c reco_coordinator)
reco_test(test_labels test_labels.c reco_coordinator)
reco_test(test_score test_score.c reco_coordinator)
reco_test(test_ledger test_ledger.c reco_coordinator)
