// SPDX-License-Identifier: Apache-2.0
// limits.h - every maximum that more than one module must agree on, with its reason.
//
// Each is checked where bytes enter the program, once.

#ifndef RECO_PROTO_BASE_LIMITS_H
#define RECO_PROTO_BASE_LIMITS_H

#define DIMENSION_MAX 4096            // floats of an embedding; CLIP's largest is 1,280
#define K_MAX 256                     // neighbours a client may ask for
#define K_WIRE_MAX 512                // neighbours a node returns per row: min(2k + 8, 512)
#define SEARCH_ROWS_MAX 256           // query rows in one SEARCH
#define PROBES_MAX 4096               // lists of an index that one query may look into
#define TARGET_RECALL_MIN 0.5f        // share of the true best that a query may aim at
#define TARGET_RECALL_MAX 0.999f      //
#define TARGET_RECALL_DEFAULT 0.95f   //
#define INDEX_RECORDS_FROM 20000      // shown records from which on an index searches
#define FETCH_IDS_MAX 16384           // ids in one FETCH
#define WRITE_RECORDS_MAX 1024        // records in one WRITE
#define NODES_MAX 32                  // nodes of one `reco up`; their ports are P+10+2i
#define VSHARDS_DEFAULT 64            // V of a new generation
#define VSHARDS_MAX 4096              //
#define KEY_BYTES_MAX 512             // a record's string key
#define CAPTION_BYTES_MAX 8192        // a record's caption
#define SOURCE_BYTES_MAX 2048         // where a record came from: path or URL
#define TAGS_MAX 32                   // tags of a record
#define TAG_BYTES_MAX 128             //
#define CANDIDATES_MAX 1000           // names that captions may suggest
#define QUERY_PARTS_MAX 16            // parts of a weighted query
#define QUERY_WEIGHT_MAX 100          // of a part, also negative, not 0
#define GET_RECORDS_MAX 1024          // records of one GetRecords or GetVectors
#define FILTER_TAGS_MAX 32            // tags of each of a filter's three lists
#define FILTER_KEYS_MAX 1024          // keys of a filter's set
#define FILTER_IDS_MAX 16384          // ids of a filter's set, hashed keys included
#define RECORD_FIELDS_MAX 8           // parts of a record that may be asked for
#define MEMORY_NAME_BYTES_MAX 128     // letters, digits, '.', '_' and '-'; first a letter or digit
#define PATH_BYTES_MAX 4095           // a folder's path, or a name where no path is allowed
#define SPACE_BYTES_MAX 128           // "NAME:DIM" or 64 hexadecimal digits and ":DIM"
#define LABELS_MAX 20000              // labels of a label set
#define LABEL_BYTES_MAX 512           //
#define TEMPLATES_MAX 128             // OpenAI's longest list has 80
#define TEXT_BYTES_MAX 65536          // a text to encode; CLIP reads its first 77 tokens
#define TEXTS_MAX 1024                // texts of one EncodeText or Tokenize
#define IMAGES_MAX 64                 // images of one EncodeImage
#define IMAGE_BYTES_MAX (32u << 20)   // an encoded image
#define IMAGE_PIXELS_MAX 100000000u   // 10,000 x 10,000; checked before decoding, 300 MB decoded
#define MESSAGE_BYTES_MAX (64u << 20) // a gRPC message
#define ENVELOPE_BYTES_MAX 8192u      // frame 0 between coordinator and node
#define BODY_BYTES_MAX (16u << 20)    // frame 1: one protobuf message
#define ROWS_BYTES_MAX (64u << 20)    // frame 2: raw rows
#define CALLS_MAX 256                 // gRPC calls at once
#define CALL_STREAMS_DEFAULT 64       // ...Stream calls among them, unless told otherwise
#define CALL_MEMORY_MIN (64ull << 20) // for the messages of all clients together: at least,
#define CALL_MEMORY_DEFAULT (512ull << 20)
#define CALL_MEMORY_MAX (64ull << 30) // and at most
#define MESSAGE_BYTES_LOW 65536       // the lowest that a message may be limited to
#define DEADLINE_MS_MAX 86400000      // one day
#define REQUEST_ID_BYTES_MAX 64       //
#define LABEL_SET_ID_BYTES 32         // hexadecimal digits
#define CONTENT_HASH_BYTES 32         // hexadecimal digits

#endif
