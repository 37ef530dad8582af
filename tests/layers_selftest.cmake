# SPDX-License-Identifier: Apache-2.0
# Goal: each rule of layers.cmake is seen to catch what it is there for, and
# lets pass what it must.
#
# Method: a small repository is written into SCRATCH, found clean, then spoilt in
# one way at a time. The spoilt file must be named with the rule that it breaks.
#
#   cmake -DSCRATCH=DIR -P tests/layers_selftest.cmake

cmake_minimum_required(VERSION 3.25)
if(NOT SCRATCH)
    message(FATAL_ERROR "-DSCRATCH=DIR names a folder that may be emptied")
endif()
set(licence "// SPDX-License-Identifier: Apache-2.0\n")

# put(file text...): writes a source file that has its licence.
function(put file)
    string(JOIN "\n" text ${ARGN})
    file(WRITE ${SCRATCH}/${file} "${licence}${text}\n")
endfunction()

# Everything here is allowed.
function(write_clean)
    file(REMOVE_RECURSE ${SCRATCH})
    put(proto/base/status.h "#include <stdint.h>")
    put(proto/base/json.c "#include <jansson.h>" "#include \"proto/base/status.h\"")
    put(proto/base/config_file.c "#include <ini.h>")
    put(proto/base/hash.c "#include <xxhash.h>" "#include <sodium/crypto_hash_sha256.h>")
    put(proto/wire/api.c "#include <protobuf-c/protobuf-c.h>" "#include <wire/reco.pb-c.h>"
        "#include \"proto/wire/api_internal.h\"" "#include \"proto/base/status.h\"")
    put(proto/wire/api_internal.h "")
    put(proto/wire/api_query.c "#include \"proto/wire/api_internal.h\"")
    put(proto/wire/rpc/rpc_msg.h "")
    put(proto/bus/bus.c "#include <zmq.h>" "#include <sodium.h>" "#include \"proto/wire/rpc/rpc_msg.h\"")
    put(proto/rpc/rpc_core.c "#include <grpc/grpc.h>" "#include \"proto/wire/rpc/rpc_msg.h\"")
    put(proto/http/http.c "#include <microhttpd.h>")
    put(shaders/kernels/args.h "#include <stdint.h>")
    put(shaders/kernels/layernorm.args.h "#include \"args.h\"")
    put(shaders/gpu/device.c "#include <vulkan/vulkan.h>" "#include \"shaders/kernels/args.h\"")
    put(shaders/cpu/dense.c "#include <oneapi/dnnl/dnnl.h>")
    put(shaders/ops/ops.h "#include \"shaders/kernels/layernorm.args.h\"")
    put(shaders/models/clip.h "#include \"shaders/ops/ops.h\"")
    put(shaders/models/clip_internal.h "")
    put(shaders/models/image_jpeg.c "#include <jpeglib.h>" "#include <png.h>" "#include <webp/decode.h>")
    put(shard_node/store.c "#include <rocksdb/c.h>" "#include \"proto/bus/bus.h\"")
    put(shard_node/main.c "")
    put(coordinator/main.c "#include \"shaders/models/clip.h\"" "#include \"proto/rpc/rpc_core.h\"")
    put(tools/matfile.c "#include <zlib.h>")
    put(tools/corpora/draw_svg.c "#include <librsvg/rsvg.h>")
    put(tools/verbs/verb_up.c "#include <archive.h>" "#include \"coordinator/query.h\""
        "#include \"shard_node/store.h\"")
    put(tests/unit/test_clip.c "#include <criterion/criterion.h>" "#include <zmq.h>"
        "#include \"shaders/models/clip_internal.h\"" "#include \"tests/support/npy.h\"")
    file(WRITE ${SCRATCH}/tools/CMakeLists.txt "# SPDX-License-Identifier: Apache-2.0\n\nadd_library(x)\n")
    file(WRITE ${SCRATCH}/tools/x.sh "#!/bin/sh -eu\n# SPDX-License-Identifier: Apache-2.0\n")
    file(WRITE ${SCRATCH}/tests/e2e/x.py "# SPDX-License-Identifier: Apache-2.0")
    string(REPEAT "\n" 900 long)
    put(shaders/models/tokenizer_entities.c "${long}")
endfunction()

function(run_layers result_out text_out)
    execute_process(
        COMMAND ${CMAKE_COMMAND} -DLAYERS_ROOT=${SCRATCH} -P ${CMAKE_CURRENT_LIST_DIR}/layers.cmake
        RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
    set(${result_out} ${result} PARENT_SCOPE)
    set(${text_out} "${text}" PARENT_SCOPE)
endfunction()

function(failed text)
    message("${text}")
    set_property(GLOBAL PROPERTY failed TRUE)
endfunction()

# caught(file rule text...): with this file the check fails, says so and says nothing else.
function(caught file rule)
    file(READ ${SCRATCH}/${file} before)
    put(${file} ${ARGN})
    expect_finding(${file} ${rule})
    file(WRITE ${SCRATCH}/${file} "${before}")
endfunction()

# caught_new(...): the same for a file that is not there otherwise.
function(caught_new file rule)
    put(${file} ${ARGN})
    expect_finding(${file} ${rule})
    file(REMOVE ${SCRATCH}/${file})
endfunction()

function(expect_finding file rule)
    run_layers(result text)
    string(REGEX MATCHALL "[^\n]+: [a-z]+: [^\n]+" findings "${text}")
    list(LENGTH findings count)
    string(FIND "${text}" "${file}: ${rule}: " at)
    if(result EQUAL 0)
        failed("${file}: ${rule}: was not caught")
    elseif(at LESS 0 OR NOT count EQUAL 1)
        failed("${file}: ${rule}: was expected alone; found was:\n${text}")
    endif()
    set_property(GLOBAL APPEND PROPERTY planted ${rule})
endfunction()

write_clean()
run_layers(result text)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "the clean repository is not clean:\n${text}")
endif()

# Downwards only.
caught(proto/base/status.h layer "#include \"proto/wire/api.h\"")
caught(proto/wire/api_query.c layer "#include \"proto/bus/bus.h\"")
caught(proto/rpc/rpc_core.c layer "#include \"proto/bus/bus.h\"")
caught(proto/bus/bus.c layer "#include \"proto/rpc/rpc_core.h\"")
caught(proto/http/http.c layer "#include \"proto/wire/api.h\"")
caught(shaders/gpu/device.c layer "#include \"shaders/ops/ops.h\"")
caught(shaders/cpu/dense.c layer "#include \"shaders/gpu/device.h\"")
caught(shaders/ops/ops.h layer "#include \"shaders/models/clip.h\"")
caught(shaders/models/clip.h layer "#include \"shaders/gpu/gpu.h\"")
caught(shaders/models/clip.h layer "#include \"proto/bus/bus.h\"")
caught(shaders/kernels/args.h layer "#include \"proto/wire/api.h\"")
caught(shard_node/store.c layer "#include \"shaders/models/clip.h\"")
caught(shard_node/store.c layer "#include \"coordinator/query.h\"")
caught(coordinator/main.c layer "#include \"shard_node/store.h\"")
caught(coordinator/main.c layer "#include \"tools/verbs/verb_up.h\"")
caught(coordinator/main.c layer "#include \"shaders/gpu/gpu.h\"")
caught(tools/verbs/verb_up.c layer "#include \"shaders/kernels/args.h\"")
caught(tools/verbs/verb_up.c layer "#include \"tests/support/npy.h\"")
caught(tools/verbs/verb_up.c layer "  #  include  \"tests/support/npy.h\"")

# One door for each library.
foreach(header zmq.h sodium.h grpc/grpc.h protobuf-c/protobuf-c.h google/protobuf/any.pb-c.h
        wire/reco.pb-c.h ini.h jansson.h xxhash.h rocksdb/c.h vulkan/vulkan.h oneapi/dnnl/dnnl.h dnnl.h
        microhttpd.h archive.h archive_entry.h jpeglib.h png.h webp/decode.h gif_lib.h utf8proc.h
        librsvg/rsvg.h cairo.h
        zlib.h criterion/criterion.h)
    caught(coordinator/main.c door "#include <${header}>")
endforeach()
caught(proto/base/status.h door "#include <jansson.h>")
caught_new(shard_node/rows.c door "#include <rocksdb/c.h>")
caught_new(tools/matrix.c door "#include <zlib.h>")
caught_new(shard_node/restore.c door "#include <rocksdb/c.h>")

# Internal headers stay with their module.
caught(proto/bus/bus.c internal "#include \"proto/wire/api_internal.h\"")
caught_new(proto/wire/wire_limits.c internal "#include \"proto/wire/api_internal.h\"")
caught_new(proto/wire/apiary.c internal "#include \"proto/wire/api_internal.h\"")
caught_new(tests/unit/test_image.c internal "#include \"shaders/models/clip_internal.h\"")

# Includes are written from the root, our own in quotes.
caught(shard_node/store.c path "#include \"store_internal.h\"")
caught(shard_node/store.c path "#include \"../proto/base/status.h\"")
caught(shard_node/store.c path "#include <proto/base/status.h>")
caught(shard_node/store.c path "#include STORE_HEADER")

# Names, folders, licence and size.
caught_new(tools/bus.c name "")
caught_new(tests/unit/store.c name "")
caught_new(proto/other/other.c folder "")
caught_new(shaders/loose.c folder "")
string(REPEAT "\n" 800 long)
caught(shard_node/store.c size "${long}")

file(WRITE ${SCRATCH}/shard_node/late.c "\n${licence}")
expect_finding(shard_node/late.c licence)
file(WRITE ${SCRATCH}/shard_node/late.c "// SPDX-License-Identifier: MIT\n")
expect_finding(shard_node/late.c licence)
file(WRITE ${SCRATCH}/shard_node/late.c "")
expect_finding(shard_node/late.c licence)
file(REMOVE ${SCRATCH}/shard_node/late.c)
foreach(late tools/late.cmake tools/bench/CMakeLists.txt tools/late.sh tests/e2e/late.py)
    file(WRITE ${SCRATCH}/${late} "# late\n\n# SPDX-License-Identifier: Apache-2.0\n")
    expect_finding(${late} licence)
    file(WRITE ${SCRATCH}/${late} "")
    expect_finding(${late} licence)
    file(REMOVE ${SCRATCH}/${late})
endforeach()

# What was put back is clean again, and every rule that layers.cmake has was planted.
run_layers(result text)
if(NOT result EQUAL 0)
    failed("the repository is not clean at the end:\n${text}")
endif()
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/layers.cmake lines REGEX "broken\\(\\$")
get_property(planted GLOBAL PROPERTY planted)
foreach(line IN LISTS lines)
    string(REGEX MATCH "broken\\([^ ]+ ([a-z]+) " ignored "${line}")
    if(CMAKE_MATCH_1 AND NOT CMAKE_MATCH_1 IN_LIST planted)
        failed("no violation of the rule \"${CMAKE_MATCH_1}\" is planted here")
    endif()
endforeach()

# An empty repository is a mistake in the call, not a clean one.
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})
run_layers(result text)
if(result EQUAL 0)
    failed("a repository without files was taken for clean")
endif()

get_property(is_failed GLOBAL PROPERTY failed)
if(is_failed)
    message(FATAL_ERROR "layers.cmake does not keep its promises")
endif()
list(LENGTH planted count)
message("${count} planted violations were caught")
