// SPDX-License-Identifier: Apache-2.0
// dataset_words.S - prompts and names of data sets, the files of tools/datasets as they are, found by the
// assembler in the folder that the build names with -I.

    .section .rodata

.macro file symbol, path
    .global dataset_words_\symbol
dataset_words_\symbol:
    .incbin "\path"
    .global dataset_words_\symbol\()_end
dataset_words_\symbol\()_end:
    .byte 0
.endm

    file cub, "cub.templates.txt"
    file cars, "cars.templates.txt"
    file flowers, "flowers.templates.txt"
    file flower_names, "flowers.names.txt"
    file pets, "pets.templates.txt"
    file food, "food.templates.txt"
    file imagenet, "imagenet.templates.txt"
    file sun, "sun.templates.txt"

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
