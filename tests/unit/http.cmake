# SPDX-License-Identifier: Apache-2.0
# Tests of the side port's server.
reco_test(test_http test_http.c reco_http)
