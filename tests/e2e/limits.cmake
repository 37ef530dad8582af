# SPDX-License-Identifier: Apache-2.0
# What happens when something runs out, or somebody attacks: real processes.
set(programs ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
reco_script(e2e_disk_full ${RECO_GRPC_PYTHON} disk_full.py ${programs})

# Damaged messages: a few in every run, 100,000 of each kind by tools/check.sh --long.
pkg_check_modules(ZMQ REQUIRED IMPORTED_TARGET libzmq)
reco_program(mutate_node mutate_node.c)
target_link_libraries(mutate_node PRIVATE reco_bus PkgConfig::ZMQ)
reco_script(e2e_mutated_node ${Python3_EXECUTABLE} mutated_node.py ${programs} 3000)
reco_script(e2e_mutated_front ${RECO_GRPC_PYTHON} mutated_front.py ${programs} 1000)
foreach(what files memory)
    reco_script(e2e_limits_real_${what} ${RECO_GRPC_PYTHON} limits_real.py ${programs} ${what})
endforeach()
reco_script(e2e_bad_input ${RECO_GRPC_PYTHON} bad_input.py ${programs})

# One trace id through all processes.
reco_script(e2e_traces ${RECO_GRPC_PYTHON} traces.py ${programs})

foreach(what clients changes operators)
    reco_script(e2e_hostile_${what} ${RECO_GRPC_PYTHON} hostile.py ${programs} ${what})
endforeach()
