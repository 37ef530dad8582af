# SPDX-License-Identifier: Apache-2.0
# Tests of the bus: requests and replies, keys, hostile frames. Some use ZeroMQ themselves.
pkg_check_modules(ZMQ REQUIRED IMPORTED_TARGET libzmq)
reco_test(test_bus test_bus.c reco_bus)
reco_test(test_bus_keys test_bus_keys.c reco_bus PkgConfig::ZMQ)
reco_test(test_bus_failure test_bus_failure.c reco_bus)
reco_test(test_bus_hostile test_bus_hostile.c reco_bus PkgConfig::ZMQ)

# A plain program: Criterion does not start under ThreadSanitizer.
reco_program(race_bus race_bus.c)
target_link_libraries(race_bus PRIVATE reco_bus)
add_test(NAME race_bus COMMAND race_bus)
set_tests_properties(race_bus PROPERTIES FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}" TIMEOUT 300)
