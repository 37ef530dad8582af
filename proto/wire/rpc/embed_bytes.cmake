# SPDX-License-Identifier: Apache-2.0
# embed_bytes.cmake - turns a file into a C source with its bytes.
# Usage: cmake -DINPUT=file -DOUTPUT=file.c -DNAME=symbol -P embed_bytes.cmake

file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR count "${digits} / 2")
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REPEAT "....." 16 line)
string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT}
    "// Made by embed_bytes.cmake.\n#include <stddef.h>\n#include <stdint.h>\n"
    "extern const uint8_t ${NAME}[];\nextern const size_t ${NAME}_bytes;\n"
    "const uint8_t ${NAME}[] = {\n${bytes}\n};\nconst size_t ${NAME}_bytes = ${count};\n")
