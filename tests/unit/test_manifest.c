// SPDX-License-Identifier: Apache-2.0
// Goal: a table of paths gives the records it names, whatever its format and however its columns
// are called; what is wrong with a row costs that row, what is wrong with the table is told before
// anything is read.
//
// Method: tables written into a temporary folder beside small files that stand for pictures.

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/dataset_fixture.h"

TestSuite(manifest, .init = make_top, .fini = remove_top);

static void put_pictures(void)
{
    put("a.jpg", "A");
    put("sub/b.c.png", "B");
}

static void expect_words(size_t index, const char *words)
{
    cr_assert(lt(sz, index, seen.count), "only %zu lines; '%s' is missing", seen.count, words);
    cr_expect(strstr(seen.lines[index], words) != NULL, "'%s' lacks '%s'", seen.lines[index],
              words);
}

static void refuse(const char *name, const struct dataset_params *params, const char *words)
{
    const char *sources[1] = {in_top(name)};
    struct dataset *dataset = NULL;
    struct reason why = {.text = ""};
    cr_expect(ne(int, dataset_open(sources, 1, params, &dataset, &why), STATUS_OK));
    cr_expect(strstr(why.text, words) != NULL, "'%s: %s' lacks '%s'", why.field, why.text, words);
    cr_expect(eq(ptr, dataset, NULL));
}

Test(manifest, csv_tsv_and_jsonl_say_the_same)
{
    put_pictures();
    put("t.csv", "\xEF\xBB\xBFImage,caption,key,url,tags\r\n"
                 "a.jpg,\"an \"\"A\"\", said\",one,http://x/a,red; blue\r\n"
                 "./sub/b.c.png,  a bee ,,,\r\n");
    put("t.TSV", "path\ttitle\tid\tsource\na.jpg\tan \"A\", said\tone\thttp://x/a\n"
                 "./sub/b.c.png\ta bee\t\t\n");
    put("t.jsonl",
        "{\"file_name\":\"a.jpg\",\"text\":\"an \\\"A\\\", said\",\"id\":\"one\",\"url\":"
        "\"http://x/a\",\"tags\":[\"red\"]}\n\n{\"image\":\"./sub/b.c.png\",\"caption\":\"a "
        "bee\"}");
    static const char *const names[] = {"t.csv", "t.TSV", "t.jsonl"};
    for (size_t i = 0; i < 3; i++) {
        read_one(names[i]);
        cr_expect(eq(u64, seen.total, 0));
        cr_assert(eq(sz, seen.count, 2), "%s", names[i]);
        expect_line(0, "one|an \"A\", said|http://x/a", NULL);
        expect_line(1, "sub/b.c|a bee|", "./sub/b.c.png");
    }
}

Test(manifest, the_tags_are_parted)
{
    put_pictures();
    put("t.csv", "image,text,tags\na.jpg,x,red; blue;;green \n");
    const char *sources[1] = {in_top("t.csv")};
    struct dataset *dataset = NULL;
    struct dataset_item item;
    struct reason why = {.text = ""};
    struct arena *arena = arena_create(1 << 20);
    cr_assert(eq(int, dataset_open(sources, 1, NULL, &dataset, &why), STATUS_OK));
    cr_assert(eq(int, dataset_next(dataset, arena, &item, &why), DATASET_ITEM));
    cr_assert(eq(sz, item.record.tag_count, 3));
    cr_expect(text_equal(item.record.tags[1], text_of("blue")));
    cr_expect(text_equal(item.record.tags[2], text_of("green")));
    cr_expect(eq(sz, item.record.image.count, 1));
    arena_destroy(&arena);
    dataset_close(&dataset);
}

Test(manifest, columns_of_other_names_are_found_by_the_flag)
{
    put_pictures();
    put("t.csv", "was,says,image\na.jpg,x,never\n");
    struct dataset_params params = {.format = -1};
    struct reason why = {.text = ""};
    cr_assert(eq(int, dataset_params_column(&params, "image=was", &why), STATUS_OK));
    cr_assert(eq(int, dataset_params_column(&params, "caption=says", &why), STATUS_OK));
    const char *sources[1] = {in_top("t.csv")};
    struct dataset *dataset = NULL;
    struct dataset_item item;
    struct arena *arena = arena_create(1 << 20);
    cr_assert(eq(int, dataset_open(sources, 1, &params, &dataset, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(int, dataset_next(dataset, arena, &item, &why), DATASET_ITEM));
    cr_expect(text_equal(item.record.caption, text_of("x")));
    arena_destroy(&arena);
    dataset_close(&dataset);

    params.columns[DATASET_KEY] = "nothing";
    refuse("t.csv", &params, "no column is named 'nothing': there are was, says, image");
    static const char *const wrong[] = {"image", "image=", "=x", "picture=x", ""};
    for (size_t i = 0; i < 5; i++) {
        cr_expect(eq(int, dataset_params_column(&params, wrong[i], &why), STATUS_INVALID));
        cr_expect(strstr(why.text, "image, caption, key, source, tags") != NULL);
    }
}

Test(manifest, a_table_without_its_columns_is_refused_at_once)
{
    put("none.csv", "");
    refuse("none.csv", NULL, "is empty: a row of column names is needed");
    put("none.csv", "a.jpg,an ant\nb.jpg,a bee\n");
    refuse("none.csv", NULL, "names no column of the picture's path (usual names: image, path");
    refuse("none.csv", NULL, "it has a.jpg, an ant");
    put("none.csv", "image,size\n");
    refuse("none.csv", NULL, "names no column of the caption");
    put("none.csv", "image,image,text\n");
    refuse("none.csv", NULL, "columns 1 and 2 are both named 'image'");
    put("none.csv", "image,\"text\n");
    refuse("none.csv", NULL, "a quote is not closed");
    cr_assert(eq(int, mkfifo(in_top("p.csv"), 0600), 0));
    refuse("p.csv", NULL, "is a pipe or device");
}

Test(manifest, a_bad_row_costs_only_itself)
{
    put_pictures();
    (void)mkdir(in_top("folder"), 0777);
    cr_assert(eq(int, mkfifo(in_top("fifo.jpg"), 0600), 0));
    put("empty.jpg", "");
    put("t.csv", "image,caption,extra\n"
                 "missing.jpg,x,\n"
                 "/dev/zero,x,\n"
                 "fifo.jpg,x,\n"
                 "folder,x,\n"
                 "empty.jpg,x,\n"
                 "http://x/y.jpg,x,\n"
                 ",x,\n"
                 "a.jpg,,\n"
                 "a.jpg,x\n"
                 "a.jpg,\xff,\n"
                 "a.jpg,\"x\"y,\n"
                 "t.csv,the table itself,\n" // a file; that it is no picture is told by who decodes
                 "a.jpg,good,\n");
    read_one("t.csv");
    static const char *const words[] = {
        "missing.jpg': no such file",
        "'/dev/zero': is a pipe or device: a regular file is allowed",
        "fifo.jpg': is a pipe or device",
        "folder': is a folder",
        "the file is empty",
        "is a URL: a path is needed",
        "image: no path is given",
        "caption: is empty",
        "2 columns, but the first row names 3",
        "caption: is not UTF-8",
        "column 2: text behind a closing quote",
        "t|the table itself|",
        "a|good|",
    };
    cr_assert(eq(sz, seen.count, 13));
    for (size_t i = 0; i < 13; i++) {
        expect_words(i, words[i]);
        cr_expect(eq(int, seen.lines[i][0] == '!', i < 11));
        char line[32];
        snprintf(line, sizeof(line), "t.csv line %zu:", i + 2);
        if (i < 11)
            expect_words(i, line);
    }
}

Test(manifest, a_bad_object_costs_only_itself)
{
    char deep[300] = "";
    memset(deep, '[', 200);
    put_pictures();
    char table[2000];
    snprintf(table, sizeof(table),
             "nonsense\n"
             "[1]\n"
             "{\"caption\":\"x\"}\n"
             "{\"image\":5,\"caption\":\"x\"}\n"
             "{\"image\":[\"a.jpg\"],\"caption\":\"x\"}\n"
             "{\"image\":\"a\\u0000.jpg\",\"caption\":\"x\"}\n"
             "{\"image\":\"a.jpg\",\"caption\":\"x\",\"status\":\"failed_to_download\","
             "\"error_message\":\"HTTP Error 404\"}\n"
             "{\"image\":\"a.jpg\",\"caption\":%s\n"
             "{\"image\":\"a.jpg\",\"caption\":\"good\",\"status\":\"success\"}\n",
             deep);
    put("t.jsonl", table);
    read_one("t.jsonl");
    static const char *const words[] = {
        "broken JSON",
        "not an object",
        "no path is given",
        "5': no such file",
        "is not a text",
        "broken JSON",
        "status: is \"failed_to_download\", HTTP Error 404: there is no picture",
        "broken JSON",
        "a|good|",
    };
    cr_assert(eq(sz, seen.count, 9));
    for (size_t i = 0; i < 9; i++)
        expect_words(i, words[i]);
}

Test(manifest, a_path_is_relative_to_the_table_and_may_be_absolute)
{
    put_pictures();
    char table[300];
    snprintf(table, sizeof(table), "image,caption\n../a.jpg,up\n%s,absolute\n", in_top("a.jpg"));
    put("sub/t.csv", table);
    read_one("sub/t.csv");
    cr_assert(eq(sz, seen.count, 2));
    expect_line(0, "../a|up|", "sub/../a.jpg");
    expect_words(1, "|absolute|");
}

Test(manifest, a_key_too_long_and_too_many_tags_are_named)
{
    put_pictures();
    char table[1200] = "image,text,key,tags\na.jpg,x,";
    memset(table + strlen(table), 'k', 513);
    strcat(table, ",\na.jpg,x,k,");
    for (int i = 0; i < 33; i++)
        strcat(table, "t;");
    strcat(table, "\n");
    put("t.csv", table);
    read_one("t.csv");
    cr_assert(eq(sz, seen.count, 2));
    expect_words(0, "key: 513 bytes: at most 512 are allowed");
    expect_words(1, "tags: more than the 32 that are allowed");
}

Test(manifest, parquet_is_named_with_the_command_that_converts_it)
{
    put("x.parquet", "PAR1");
    refuse("x.parquet", NULL, "python3 tools/convert_parquet.py");
    put("out/00000.parquet", "PAR1");
    put("out/00000_stats.json", "{}");
    refuse("out", NULL, "python3 tools/convert_parquet.py");
    put("out/a.jpg", "A"); // with pictures beside it parquet is only their metadata once more
    put("out/a.json", "{\"caption\":\"an ant\",\"status\":\"success\"}");
    read_one("out");
    expect_line(0, "a|an ant|", "out/a.jpg");
}
