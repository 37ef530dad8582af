# SPDX-License-Identifier: Apache-2.0
# The command line's readers of foreign files.
reco_fuzz(npyfile fuzz_npyfile.c reco_tools)
reco_fuzz(label_file fuzz_label_file.c reco_tools)
reco_fuzz(dataset_tar fuzz_dataset_tar.c reco_tools)
reco_fuzz(dataset_manifest fuzz_dataset_manifest.c reco_tools)
reco_fuzz(dataset_layout fuzz_dataset_layout.c reco_fuzz_scratch reco_tools)
reco_fuzz(json_items fuzz_json_items.c reco_tools)
reco_fuzz(matfile fuzz_matfile.c reco_fuzz_scratch reco_tools)
reco_fuzz(dataset_sidecar fuzz_dataset_sidecar.c reco_tools)
reco_fuzz(train_state fuzz_train_state.c reco_tools)
