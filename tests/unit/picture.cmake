# SPDX-License-Identifier: Apache-2.0
reco_test(test_image test_image.c reco_image reco_test_gz)
reco_test(test_image_params test_image_params.c reco_image)
reco_test(test_image_resize test_image_resize.c reco_image)
reco_test(test_tokenizer test_tokenizer.c reco_tokenizer reco_test_tokenizer)
