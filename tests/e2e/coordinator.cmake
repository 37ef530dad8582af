# A whole cluster inside a test program.
add_library(reco_coordinator_house STATIC coordinator_house.c)
target_link_libraries(reco_coordinator_house PUBLIC reco_coordinator reco_shard_node reco_flags
    PRIVATE reco_test_warnings reco_test_relaxed PkgConfig::CRITERION)

reco_test(test_coordinator_write test_coordinator_write.c reco_coordinator_house)
