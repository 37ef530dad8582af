# SPDX-License-Identifier: Apache-2.0
# The command line's parts.
reco_test(test_args test_args.c reco_tools)
reco_test(test_cliplike test_cliplike.c reco_tools)
reco_test(test_dataset test_dataset.c reco_tools)
reco_test(test_eval test_eval.c reco_tools reco_test_head)
reco_test(test_label_file test_label_file.c reco_tools)
reco_test(test_npyfile test_npyfile.c reco_tools)
reco_test(test_sample_picture test_sample_picture.c reco_tools reco_image)
reco_test(test_rowfile test_rowfile.c reco_tools)
reco_test(test_matching_client test_matching_client.c reco_tools)
reco_test(test_manifest test_manifest.c reco_tools)
reco_test(test_train test_train.c reco_tools)
