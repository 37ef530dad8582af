# SPDX-License-Identifier: Apache-2.0
# What reco is for, asked of the real programs.
set(programs ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
reco_script(e2e_accuracy ${Python3_EXECUTABLE} accuracy.py ${programs})
# A minute; 310 to 430 s where fifteen others want the two cores (2026-11-29).
set_tests_properties(e2e_accuracy PROPERTIES TIMEOUT 1800)
reco_script(e2e_cluster ${Python3_EXECUTABLE} cluster.py ${programs})
reco_script(e2e_readme ${RECO_GRPC_PYTHON} readme.py ${programs})
reco_script(e2e_interop ${RECO_GRPC_PYTHON} interop.py ${programs})
