# SPDX-License-Identifier: Apache-2.0
# Fails when the code loses the shape that it was given: folders include only
# downwards, each library has one door, internal headers stay with their
# module, names are unique, files have a licence and a size.
#
#   cmake -P tests/layers.cmake               the repository that this file lies in
#   cmake -DLAYERS_ROOT=DIR -P ...            another one (layers_selftest.cmake)
#
# Every finding is one line, "FILE: RULE: what is wrong"; all are told.

cmake_minimum_required(VERSION 3.25)
if(NOT LAYERS_ROOT)
    cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH LAYERS_ROOT)
endif()

# --- rule "layer": what the files of a folder may include, by the folder of the header

set(may_use_proto/base "proto/base")
set(may_use_proto/wire "proto/(wire|base)")
set(may_use_proto/bus "proto/(bus|wire|base)")
set(may_use_proto/rpc "proto/(rpc|wire|base)")
set(may_use_proto/http "proto/(http|base)")
set(may_use_shaders/kernels "shaders/kernels|proto/base")
set(may_use_shaders/gpu "shaders/(gpu|kernels)|proto/base")
set(may_use_shaders/cpu "shaders/cpu|proto/base")
set(may_use_shaders/ops "shaders/(ops|kernels|gpu|cpu)|proto/base")
set(may_use_shaders/models "shaders/(models|ops|cpu)|proto/base") # cpu: training, which has no other device
set(may_use_shard_node/index "shard_node|proto/base") # rows and distances, not the store
set(may_use_shard_node "shard_node|proto/[a-z]+") # never shaders: a shard needs no GPU
set(may_use_coordinator "coordinator|shaders/(models|ops)|proto/[a-z]+") # never shard_node: they meet in shard.proto
set(may_use_tools "tools|coordinator|shard_node|shaders/(models|ops|gpu)|proto/[a-z]+") # gpu: to list devices
set(may_use_tests "tests|tools|coordinator|shard_node|shaders/[a-z]+|proto/[a-z]+")
set(folders
    proto/base proto/wire proto/bus proto/rpc proto/http
    shaders/kernels shaders/gpu shaders/cpu shaders/ops shaders/models
    shard_node/index shard_node coordinator tools tests)
set(tops proto shaders shard_node coordinator tools tests)

# --- rule "door": the headers of a library, and the files of the product that may include them

set(libraries
    archive criterion dnnl gif grpc inih jansson jpeg microhttpd png protobuf-c rocksdb rsvg sodium utf8proc
    vulkan webp xxhash zlib zmq)
set(headers_archive "archive(_entry)?\\.h")
set(door_archive "^tools/")
set(headers_criterion "criterion/")
set(door_criterion "^tests/")
set(headers_dnnl "(oneapi/)?dnnl")
set(door_dnnl "^shaders/cpu/")
set(headers_gif "gif_lib\\.h")
set(door_gif "^shaders/models/")
set(headers_grpc "grpc/")
set(door_grpc "^proto/rpc/")
set(headers_inih "ini\\.h")
set(door_inih "^proto/base/config_file\\.c$")
set(headers_jansson "jansson")
set(door_jansson "^proto/base/json\\.c$")
set(headers_jpeg "(jpeglib|jerror|turbojpeg)\\.h")
set(door_jpeg "^shaders/models/")
set(headers_microhttpd "microhttpd")
set(door_microhttpd "^proto/http/")
set(headers_png "(libpng|png)")
set(door_png "^shaders/models/")
set(headers_protobuf-c "(protobuf-c|google/protobuf|wire)/") # <wire/...> is generated from our .proto files
set(door_protobuf-c "^proto/wire/")
set(headers_rocksdb "rocksdb/")
set(door_rocksdb "^shard_node/store(_[a-z]+)?\\.[ch]$")
set(headers_rsvg "(librsvg/|cairo)")
set(door_rsvg "^tools/corpora/")
set(headers_sodium "sodium")
set(door_sodium "^proto/(base|bus)/")
set(headers_utf8proc "utf8proc\\.h")
set(door_utf8proc "^shaders/models/")
set(headers_vulkan "vulkan/")
set(door_vulkan "^shaders/gpu/")
set(headers_webp "webp/")
set(door_webp "^shaders/models/")
set(headers_xxhash "xxhash\\.h")
set(door_xxhash "^proto/base/hash\\.c$")
set(headers_zlib "zlib\\.h")
set(door_zlib "^(tests/|tools/matfile\\.c$)") # a test writes what the product reads through libpng or libarchive
set(headers_zmq "zmq")
set(door_zmq "^proto/bus/")

# --- the rest of the rules

set(lines_max 800)
set(longer_allowed shaders/models/tokenizer_entities.c) # generated tables
set(same_name_allowed main.c)
set(first_line "// SPDX-License-Identifier: Apache-2.0")

function(broken file rule text)
    message("${file}: ${rule}: ${text}")
    set_property(GLOBAL PROPERTY broken TRUE)
endfunction()

# The folder of the list above that the file lies in; empty when there is none.
function(folder_of file out)
    set(${out} "" PARENT_SCOPE)
    foreach(folder ${folders})
        if(file MATCHES "^${folder}/")
            set(${out} ${folder} PARENT_SCOPE)
            return()
        endif()
    endforeach()
endfunction()

function(check_text file)
    file(READ ${LAYERS_ROOT}/${file} text)
    string(FIND "${text}" "${first_line}\n" at)
    if(NOT at EQUAL 0)
        broken(${file} licence "the first line is not ${first_line}")
    endif()

    string(REGEX MATCHALL "\n" ends "${text}")
    list(LENGTH ends lines)
    if(lines GREATER lines_max AND NOT file IN_LIST longer_allowed)
        broken(${file} size "has ${lines} lines, at most ${lines_max} are allowed")
    endif()
endfunction()

# Of a script or a build file: in its first line, or in the second behind "#!".
function(check_licence file)
    file(STRINGS ${LAYERS_ROOT}/${file} lines LIMIT_COUNT 2)
    if(NOT "${lines}" MATCHES "^(#![^;]*;)?# SPDX-License-Identifier: Apache-2\\.0(;|$)")
        broken(${file} licence "the first line is not # SPDX-License-Identifier: Apache-2.0")
    endif()
endfunction()

# An include in quotes names the header from the root of the repository.
function(check_own_include file folder header)
    if(header MATCHES "(^|/)\\.\\.?/")
        broken(${file} path "\"${header}\" is not written from the root")
    elseif(NOT header MATCHES "^(${may_use_${folder}})/")
        string(REGEX MATCH "^[^/]+/" top "${header}")
        string(REPLACE "/" "" top "${top}")
        if(top IN_LIST tops)
            broken(${file} layer "\"${header}\": ${folder} may include ${may_use_${folder}}")
        elseif(NOT folder STREQUAL "shaders/kernels") # GLSL includes beside itself
            broken(${file} path "\"${header}\" is not written from the root")
        endif()
    endif()

    # x_internal.h is for x.c and x_*.c, and for the tests that have x in their name.
    if(header MATCHES "([a-z0-9_]+)_internal\\.h$")
        set(module ${CMAKE_MATCH_1})
        cmake_path(GET file FILENAME name)
        if(folder STREQUAL "tests")
            set(friend "_${module}[_.]")
        else()
            set(friend "^${module}[_.]")
        endif()
        if(NOT name MATCHES "${friend}")
            broken(${file} internal "\"${header}\" is private to ${module}.c and ${module}_*.c")
        endif()
    endif()
endfunction()

function(check_library_include file folder header)
    string(REGEX MATCH "^[^/]+/" top "${header}")
    string(REPLACE "/" "" top "${top}")
    if(top IN_LIST tops)
        broken(${file} path "<${header}> is ours and belongs in quotes")
    endif()
    foreach(library ${libraries})
        if(header MATCHES "^${headers_${library}}" AND NOT folder STREQUAL "tests"
           AND NOT file MATCHES "${door_${library}}")
            broken(${file} door "<${header}>: the door to ${library} is ${door_${library}}")
        endif()
    endforeach()
endfunction()

function(check_includes file folder)
    file(STRINGS ${LAYERS_ROOT}/${file} lines REGEX "^[ \t]*#[ \t]*include")
    foreach(line IN LISTS lines)
        if(line MATCHES "include[ \t]*\"([^\"]+)\"")
            check_own_include(${file} ${folder} ${CMAKE_MATCH_1})
        elseif(line MATCHES "include[ \t]*<([^>]+)>")
            check_library_include(${file} ${folder} ${CMAKE_MATCH_1})
        else()
            broken(${file} path "${line}: an include names its header")
        endif()
    endforeach()
endfunction()

# --- the walk

set(count 0)
foreach(top ${tops})
    file(GLOB_RECURSE files RELATIVE ${LAYERS_ROOT} ${LAYERS_ROOT}/${top}/*.c ${LAYERS_ROOT}/${top}/*.h)
    foreach(file ${files})
        math(EXPR count "${count} + 1")
        cmake_path(GET file FILENAME name)
        if(DEFINED seen_${name} AND NOT name IN_LIST same_name_allowed)
            broken(${file} name "${seen_${name}} has the same name")
        endif()
        set(seen_${name} ${file})

        check_text(${file})
        folder_of(${file} folder)
        if(folder)
            check_includes(${file} ${folder})
        else()
            broken(${file} folder "lies in no folder that tests/layers.cmake knows")
        endif()
    endforeach()
endforeach()

foreach(top ${tops})
    set(globs "")
    foreach(name CMakeLists.txt *.cmake *.sh *.py)
        list(APPEND globs ${LAYERS_ROOT}/${top}/${name})
    endforeach()
    file(GLOB_RECURSE files RELATIVE ${LAYERS_ROOT} ${globs})
    foreach(file ${files})
        check_licence(${file})
    endforeach()
endforeach()

get_property(is_broken GLOBAL PROPERTY broken)
if(is_broken)
    message(FATAL_ERROR "the rules are in tests/layers.cmake, their reasons in tests/README.md")
elseif(count EQUAL 0)
    message(FATAL_ERROR "no source files under ${LAYERS_ROOT}")
endif()
message("${count} files keep the rules")
