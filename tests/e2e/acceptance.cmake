# What reco is for, asked of the real programs.
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)

# reco_script(name script arguments...): an end-to-end test in Python's standard library; 77 = skipped.
function(reco_script name script)
    add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/${script}
        ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${ARGN})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
        FAIL_REGULAR_EXPRESSION "${RECO_TEST_FAIL}")
endfunction()

reco_script(e2e_accuracy accuracy.py)
reco_script(e2e_cluster cluster.py)

# grpcio may live in the system's Python only.
find_program(RECO_SYSTEM_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
add_test(NAME e2e_interop COMMAND ${RECO_SYSTEM_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/interop.py
    ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(e2e_interop PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
