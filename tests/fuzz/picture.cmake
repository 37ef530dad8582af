# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/reco_fuzz.cmake)
reco_fuzz(image fuzz_image.c reco_image)
reco_fuzz(image_params fuzz_image_params.c reco_image)
reco_fuzz(tokenizer fuzz_tokenizer.c reco_tokenizer)
reco_fuzz(vocabulary fuzz_vocabulary.c reco_tokenizer)
reco_fuzz(tokenizer_json fuzz_tokenizer_json.c reco_tokenizer)
