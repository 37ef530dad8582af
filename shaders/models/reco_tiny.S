// SPDX-License-Identifier: Apache-2.0
// reco_tiny.S - the files of the embedded model as they are, found by the assembler
// in the folder that the build names with -I.

#if defined(__APPLE__)
    .section __TEXT,__const
#else
    .section .rodata
#endif

.macro file symbol, path
    .balign 64
    .global \symbol
\symbol:
    .incbin "\path"
    .global \symbol\()_end
\symbol\()_end:
    .byte 0
.endm

    file reco_tiny_config, "config.json"
    file reco_tiny_preprocessor, "preprocessor_config.json"
    file reco_tiny_vocab, "vocab.json"
    file reco_tiny_merges, "merges.txt"
    file reco_tiny_reco, "reco.json"
    file reco_tiny_weights, "model.safetensors"
    file reco_tiny_head, "head.safetensors"

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
