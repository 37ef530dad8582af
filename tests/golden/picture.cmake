# SPDX-License-Identifier: Apache-2.0
reco_test(test_golden_tokenizer test_golden_tokenizer.c reco_tokenizer reco_test_gz reco_test_tokenizer)
reco_test(test_golden_preprocess test_golden_preprocess.c reco_image reco_test_gz)
add_test(NAME test_golden_preprocess_scalar COMMAND test_golden_preprocess --jobs 2)
set_tests_properties(test_golden_preprocess_scalar PROPERTIES
    ENVIRONMENT RECO_CPU=scalar FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}" TIMEOUT 300)
