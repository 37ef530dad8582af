# What happens when something runs out, or somebody attacks: real processes.
set(programs ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
reco_script(e2e_disk_full ${RECO_GRPC_PYTHON} disk_full.py ${programs})
