// SPDX-License-Identifier: Apache-2.0
// Goal: every source gives its records with the promised keys, captions and sources; what is
// wrong with one item costs that item only and is told with its name.
//
// Method: folders, tars and arrays written into a temporary folder, whole and broken.

#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/dataset_fixture.h"

TestSuite(dataset, .init = make_top, .fini = remove_top);

// --- folders

Test(dataset, a_folder_gives_its_pictures_sorted_with_captions_beside_them)
{
    put("f/b.jpg", "B");
    put("f/b.txt", "\xef\xbb\xbf  a bee \n\n");
    put("f/a.PNG", "A");
    put("f/a.json", "{\"text\": \"an ant\", \"url\": \"http://x/a\", \"tags\": [\"insect\"]}");
    put("f/deep/er/c.webp", "C");
    put("f/deep/er/c.json", "{\"caption\": \"from json\", \"key\": \"own-key\"}");
    put("f/deep/er/c.txt", "from txt");
    put("f/deep/d.e.gif", "D");
    put("f/deep/d.e.txt", "dotted");
    put("f/README.txt", "no picture of this name");
    put("f/.hidden/x.jpg", "never");
    read_one("f");
    cr_expect(eq(u64, seen.total, 4));
    cr_expect(eq(u32, seen.dimension, 0));
    cr_assert(eq(sz, seen.count, 4));
    expect_line(0, "a|an ant|http://x/a", NULL);
    expect_line(1, "b|a bee|", "f/b.jpg");
    expect_line(2, "deep/d.e|dotted|", "f/deep/d.e.gif");
    expect_line(3, "own-key|from txt|", "f/deep/er/c.webp");
}

Test(dataset, a_bad_item_of_a_folder_costs_only_itself)
{
    char long_caption[CAPTION_BYTES_MAX + 2];
    memset(long_caption, 'x', sizeof(long_caption) - 1);
    long_caption[sizeof(long_caption) - 1] = 0;
    put("f/a.jpg", "A");
    put("f/b.jpg", "B");
    put("f/b.txt", " \n");
    put("f/c.jpg", "C");
    put("f/c.txt", "not \xff utf-8");
    put("f/d.jpg", "D");
    put("f/d.json", "{\"caption\": \"x\"");
    put("f/e.jpg", "E");
    put("f/e.json", "[1]");
    put("f/f.jpg", "F");
    put("f/f.txt", long_caption);
    put("f/g.jpg", "G");
    put("f/g.json", "{\"caption\": {\"en\": \"x\"}}");
    put("f/h.jpg", "H");
    put("f/h.txt", "good");
    put("f/h.png", "H2");
    put("f/i.jpg", "I");
    put("f/i.json", "{\"caption\": \"x\", \"tags\": 5}");
    read_one("f");
    cr_assert(eq(sz, seen.count, 10));
    static const char *const words[] = {
        "there is no .txt and no .json",
        "caption: is empty",
        "caption: is not UTF-8",
        "line 1",
        "its JSON is not an object",
        "caption: 8193 bytes: at most 8192 are allowed",
        "caption: is not a text",
        "h|good|",
        "has the same name but for the extension",
        "tags: is not a list of texts",
    };
    for (size_t i = 0; i < 10; i++) {
        cr_expect(strstr(seen.lines[i], words[i]) != NULL, "'%s' lacks '%s'", seen.lines[i],
                  words[i]);
        cr_expect(eq(int, seen.lines[i][0] == '!', i != 7));
    }
}

Test(dataset, links_to_folders_are_not_followed)
{
    put("f/a.jpg", "A");
    put("f/a.txt", "a");
    cr_assert(eq(int, symlink(in_top("f"), in_top("f/again")), 0));
    cr_assert(eq(int, symlink(in_top("f/a.jpg"), in_top("f/link.jpg")), 0));
    put("f/link.txt", "through a link");
    read_one("f");
    cr_assert(eq(sz, seen.count, 2));
    expect_line(1, "link|through a link|", "f/link.jpg");
}

Test(dataset, sources_that_are_none_are_refused_before_anything_is_read)
{
    put("empty/x.txt", "x");
    put("notes.txt", "x");
    put("a.npy", "x");
    const char *none[] = {in_top("nothing")};
    expect_refused(none, 1, STATUS_NOT_FOUND, "no such file or folder");
    const char *empty[] = {in_top("empty")};
    expect_refused(empty, 1, STATUS_INVALID, "has no pictures");
    const char *notes[] = {in_top("notes.txt")};
    expect_refused(notes, 1, STATUS_UNSUPPORTED, "a folder, a .tar, a manifest");
    const char *alone[] = {in_top("a.npy")};
    expect_refused(alone, 1, STATUS_INVALID, "arrays come in pairs");
    const char *pair[] = {in_top("a.npy"), in_top("a.npy")};
    expect_refused(pair, 2, STATUS_INVALID, "not a .npy file");
}

// --- tars

Test(dataset, a_tar_groups_members_of_one_stem)
{
    static struct tar tar;
    add_member(&tar, "./", '5', "", 0, 0);
    add_text(&tar, "./0001.jpg", "A");
    add_text(&tar, "./0001.txt", "first");
    add_text(&tar, "./0001.cls", "7");
    add_text(&tar, "dir/0002.json", "{\"caption\":\"second\",\"url\":\"http://x/2\"}");
    add_text(&tar, "dir/0002.PNG", "B");
    add_member(&tar, "dir/link.jpg", '2', "", 0, 0);
    add_text(&tar, "README", "no extension");
    add_text(&tar, "0003.webp", "C");
    add_text(&tar, "0003.json", "{\"key\":\"000000003\",\"text\":\"third\",\"caption\":null}");
    put_tar("shard-7.tar", &tar);
    read_one("shard-7.tar");
    cr_expect(eq(u64, seen.total, 0)); // unknown before the end
    cr_assert(eq(sz, seen.count, 4));
    expect_line(0, "shard-7/0001|first|", "shard-7.tar:0001");
    expect_line(1, "shard-7/dir/0002|second|http://x/2", NULL);
    cr_expect(strstr(seen.lines[2], "'dir/link.jpg' is a symbolic link") != NULL);
    expect_line(3, "000000003|third|", "shard-7.tar:0003");
}

Test(dataset, a_bad_sample_of_a_tar_costs_only_itself)
{
    static struct tar tar;
    add_text(&tar, "a.txt", "no picture");
    add_text(&tar, "b.jpg", "no caption");
    add_text(&tar, "c.jpg", "C");
    add_text(&tar, "c.png", "C again");
    add_text(&tar, "c.txt", "two pictures");
    add_text(&tar, "d.jpg", "D");
    add_text(&tar, "d.json", "nonsense");
    add_text(&tar, "\xff\xfe.jpg", "E");
    add_text(&tar, "\xff\xfe.txt", "name is not UTF-8");
    add_text(&tar, "f.jpg", "F");
    add_text(&tar, "f.txt", "good");
    put_tar("s.tar", &tar);
    read_one("s.tar");
    cr_assert(eq(sz, seen.count, 6));
    static const char *const words[] = {
        "has no picture", "no .txt and no .json", "picture: the sample has two", "line 1", "UTF-8",
        "s/f|good|",
    };
    for (size_t i = 0; i < 6; i++) {
        cr_expect(strstr(seen.lines[i], words[i]) != NULL, "'%s' lacks '%s'", seen.lines[i],
                  words[i]);
        cr_expect(eq(int, seen.lines[i][0] == '!', i != 5));
    }
}

Test(dataset, a_member_that_claims_to_be_huge_is_not_allocated)
{
    static struct tar tar;
    add_text(&tar, "a.jpg", "A");
    add_text(&tar, "a.txt", "good");
    add_member(&tar, "b.jpg", '0', "B", 1, (size_t)7 << 30); // 7 GiB claimed, octal's most is 8
    put_tar("s.tar", &tar);
    read_one("s.tar");
    cr_assert(eq(sz, seen.count, 3));
    expect_line(0, "s/a|good|", "s.tar:a");
    cr_expect(strstr(seen.lines[1], "picture: 7516192768 bytes: at most 33554432 are allowed") !=
              NULL);
    cr_expect(strstr(seen.lines[2], "broken after 2 samples") != NULL);
}

Test(dataset, a_tar_cut_anywhere_gives_what_is_whole_and_says_that_it_is_broken)
{
    static struct tar tar;
    add_text(&tar, "a.jpg", "A");
    add_text(&tar, "a.txt", "first");
    add_text(&tar, "b.jpg", "B");
    add_text(&tar, "b.txt", "second");
    // In the middle of b.txt's bytes.
    put_bytes("s.tar", tar.data, tar.count - 509);
    read_one("s.tar");
    cr_assert(eq(sz, seen.count, 3));
    expect_line(0, "s/a|first|", "s.tar:a");
    cr_expect(eq(chr, seen.lines[1][0], '!'));
    cr_expect(strstr(seen.lines[2], "broken after 2 samples") != NULL);

    // At any other place nothing worse happens.
    for (size_t count = 0; count < tar.count; count += 61) {
        put_bytes("s.tar", tar.data, count);
        read_one("s.tar");
        cr_expect(seen.count <= 4);
    }
}

Test(dataset, a_bent_tar_never_does_worse_than_a_bad_item)
{
    static struct tar tar;
    add_text(&tar, "a.jpg", "A");
    add_text(&tar, "a.txt", "first");
    for (size_t i = 0; i < 512; i += 3) {
        static struct tar bent;
        bent = tar;
        bent.data[i] ^= 0x55;
        put_tar("s.tar", &bent);
        read_one("s.tar");
        cr_expect(seen.count <= 3);
    }
    put("s.tar", "this is no tar at all, only a text of some length");
    read_one("s.tar");
    cr_assert(eq(sz, seen.count, 1));
    cr_expect(eq(chr, seen.lines[0][0], '!'));
}

Test(dataset, shards_in_a_folder_are_read_after_its_pictures)
{
    static struct tar tar;
    add_text(&tar, "x.jpg", "X");
    add_text(&tar, "x.txt", "in a shard");
    put_tar("f/10.tar", &tar);
    put_tar("f/9.tar", &tar);
    put("f/0.jpg", "0");
    put("f/0.txt", "beside");
    put("f/00000_stats.json", "{}");
    read_one("f");
    cr_assert(eq(sz, seen.count, 3));
    expect_line(0, "0|beside|", "f/0.jpg");
    expect_line(1, "9/x|in a shard|", "f/9.tar:x");
    expect_line(2, "10/x|in a shard|", "f/10.tar:x");
}

// --- arrays

Test(dataset, arrays_give_rows_as_they_are_with_their_metadata)
{
    const float images[] = {3, 4, 0, 2};
    const float texts[] = {0, 1, 1, 0};
    put_array("i.npy", images, 2, 2);
    put_array("t.npy", texts, 2, 2);
    put("m.jsonl", "{\"caption\":\"one\",\"key\":7}\n{\"image_path\":\"p/2.jpg\"}\n");
    const char *sources[] = {in_top("i.npy"), in_top("t.npy"), in_top("m.jsonl"), in_top("i.npy"),
                             in_top("t.npy")};
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_sources(sources, 5, &seen, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, seen.total, 4));
    cr_expect(eq(u32, seen.dimension, 2));
    cr_assert(eq(sz, seen.count, 4));
    expect_line(0, "7|one|", NULL);
    expect_line(1, "1||p/2.jpg", NULL);
    expect_line(2, "2||", NULL); // rows are counted through all arrays
    expect_line(3, "3||", NULL);

    struct dataset *dataset = NULL;
    struct arena *arena = arena_create(1 << 20);
    struct dataset_item item;
    cr_assert(eq(int, dataset_open(sources, 3, NULL, &dataset, &why), STATUS_OK));
    cr_assert(eq(int, dataset_next(dataset, arena, &item, &why), DATASET_ITEM));
    cr_expect(eq(sz, item.record.image_count, 2));
    cr_expect(eq(flt, item.record.image_embedding[0], images[0]));
    cr_expect(eq(flt, item.record.text_embedding[1], texts[1]));
    arena_destroy(&arena);
    dataset_close(&dataset);
}

Test(dataset, a_bad_row_costs_only_itself_and_metadata_must_have_a_line_for_each)
{
    const float images[] = {1, 0, 0, 0, 1, 1};
    const float texts[] = {0, 1, 1, 0, 1, 1};
    put_array("i.npy", images, 3, 2);
    put_array("t.npy", texts, 3, 2);
    put("m.jsonl", "{\"caption\":\"one\"}\n{\"caption\":\"two\"}\n");
    const char *sources[] = {in_top("i.npy"), in_top("t.npy"), in_top("m.jsonl")};
    struct reason why = {.text = ""};
    cr_assert(eq(int, read_sources(sources, 3, &seen, &why), STATUS_OK));
    cr_assert(eq(sz, seen.count, 3));
    expect_line(0, "0|one|", NULL);
    cr_expect(strstr(seen.lines[1], "i.npy row 1: image embedding: has an element") != NULL);
    cr_expect(strstr(seen.lines[2], "ends after 2 lines") != NULL);

    put("m.jsonl", "{}\n{}\n{}\n{}\n");
    cr_assert(eq(int, read_sources(sources, 3, &seen, &why), STATUS_OK));
    cr_assert(eq(sz, seen.count, 4));
    cr_expect(strstr(seen.lines[3], "has more lines than there are rows (3)") != NULL);

    put("m.jsonl", "{}\n\n{}\n");
    cr_assert(eq(int, read_sources(sources, 3, &seen, &why), STATUS_OK));
    cr_expect(eq(chr, seen.lines[1][0], '!'));
    expect_line(2, "2||", NULL);
}

Test(dataset, arrays_that_do_not_fit_together_are_refused)
{
    const float values[] = {1, 2, 3, 4, 5, 6};
    put_array("a.npy", values, 3, 2);
    put_array("b.npy", values, 2, 3);
    put_array("c.npy", values, 2, 2);
    put("p.jpg", "P");
    const char *shapes[] = {in_top("a.npy"), in_top("b.npy")};
    expect_refused(shapes, 2, STATUS_INVALID, "2 rows of 3 numbers, but");
    const char *dimensions[] = {in_top("a.npy"), in_top("a.npy"), in_top("b.npy"), in_top("b.npy")};
    expect_refused(dimensions, 4, STATUS_INVALID, "rows of 3 numbers after rows of 2");
    const char *missing[] = {in_top("a.npy"), in_top("a.npy"), in_top("none.jsonl")};
    expect_refused(missing, 3, STATUS_NOT_FOUND, "cannot be opened");
    put("f/p.jpg", "P");
    const char *mixed[] = {in_top("a.npy"), in_top("a.npy"), in_top("f")};
    expect_refused(mixed, 3, STATUS_INVALID, "pictures and arrays in one build");
}

Test(dataset, clip_retrieval_output_is_read_shard_by_shard)
{
    const float values[] = {1, 2, 3, 4};
    put_array("o/img_emb/img_emb_10.npy", values, 1, 2);
    put_array("o/img_emb/img_emb_9.npy", values, 2, 2);
    put_array("o/text_emb/text_emb_10.npy", values, 1, 2);
    put_array("o/text_emb/text_emb_9.npy", values, 2, 2);
    put("o/metadata/metadata_10.jsonl", "{\"caption\":\"ten\",\"image_path\":\"p\"}\n");
    put("o/metadata/metadata_9.jsonl", "{\"caption\":\"nine\"}\n{\"caption\":\"nine b\"}\n");
    read_one("o");
    cr_assert(eq(sz, seen.count, 3));
    expect_line(0, "0|nine|", NULL);
    expect_line(1, "1|nine b|", NULL);
    expect_line(2, "2|ten|p", NULL);

    cr_assert(eq(int, unlink(in_top("o/metadata/metadata_9.jsonl")), 0));
    const char *sources[] = {in_top("o")};
    expect_refused(sources, 1, STATUS_NOT_FOUND, "no such file, though other shards have theirs");

    cr_assert(eq(int, unlink(in_top("o/metadata/metadata_10.jsonl")), 0));
    put("o/metadata/metadata_9.parquet", "PAR1");
    expect_refused(
        sources, 1, STATUS_UNSUPPORTED,
        "parquet is not read; this makes what is read of it: python3 tools/convert_parquet.py");

    cr_assert(eq(int, unlink(in_top("o/text_emb/text_emb_10.npy")), 0));
    cr_assert(eq(int, unlink(in_top("o/metadata/metadata_9.parquet")), 0));
    expect_refused(sources, 1, STATUS_NOT_FOUND, "cannot be opened");
}
