# The command line, asked as a user asks: one ctest for each class of cli.py.
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)

foreach(class Usage Models Memory Asking Resume Up Bench)
    string(TOLOWER ${class} name)
    add_test(NAME cli_${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/cli.py
        ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${class})
    set_tests_properties(cli_${name} PROPERTIES TIMEOUT 600
        FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}")
endforeach()
