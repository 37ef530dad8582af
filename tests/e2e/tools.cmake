# SPDX-License-Identifier: Apache-2.0
# The command line, asked as a user asks; cli.py is what they share.
foreach(what usage models device bf16 memory asking choosing index resume train up bench)
    reco_script(cli_${what} ${Python3_EXECUTABLE} cli_${what}.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
endforeach()

# All that the demo asks, on a Vulkan device: half a minute of a software one, and nothing for sanitizers to see.
if(NOT RECO_SANITIZE)
    reco_script(e2e_device_labels ${Python3_EXECUTABLE} device_labels.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
    set_tests_properties(e2e_device_labels PROPERTIES LABELS vulkan)
endif()

# What a person reads and types before anything runs.
reco_script(e2e_pages ${Python3_EXECUTABLE} pages.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
    ${CMAKE_BINARY_DIR}/share)

# Measuring a memory with a data set.
reco_script(e2e_eval ${Python3_EXECUTABLE} eval.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
reco_script(e2e_layouts ${Python3_EXECUTABLE} layouts.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# How much an index finds: numbers of the product, not of a build with sanitizers, where it takes minutes.
if(NOT RECO_SANITIZE)
    reco_script(e2e_recall ${Python3_EXECUTABLE} recall.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
endif()

# What is read off measurements, and the corpus that is drawn for them.
reco_script(e2e_bench_front ${Python3_EXECUTABLE} bench_front.py)
reco_script(e2e_corpora ${Python3_EXECUTABLE} corpora.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# What users bring to it, and its hostile twins.
foreach(class Manifests Downloads Layouts Hostile)
    string(TOLOWER ${class} name)
    reco_script(e2e_inputs_${name} ${Python3_EXECUTABLE} inputs.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${class})
endforeach()

# Memories as files, and back.
reco_script(e2e_snapshots ${Python3_EXECUTABLE} snapshots.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
reco_script(e2e_round_trip ${Python3_EXECUTABLE} round_trip.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# What changes all records that match.
reco_script(e2e_by_filter ${Python3_EXECUTABLE} by_filter.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# What lies on a user's machine.
reco_script(e2e_install ${Python3_EXECUTABLE} install.py ${CMAKE_COMMAND} ${CMAKE_BINARY_DIR})

# The side ports; a Python that has prometheus_client reads the metrics a second time.
set(RECO_METRICS_PYTHON ${Python3_EXECUTABLE})
execute_process(COMMAND ${RECO_SYSTEM_PYTHON} -c "import prometheus_client.parser" RESULT_VARIABLE failed
    OUTPUT_QUIET ERROR_QUIET)
if(NOT failed)
    set(RECO_METRICS_PYTHON ${RECO_SYSTEM_PYTHON})
endif()
reco_script(e2e_side_port ${RECO_METRICS_PYTHON} side_port.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# Certificates, lists of clients, what SIGHUP changes.
reco_script(e2e_secure ${Python3_EXECUTABLE} secure.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
