// SPDX-License-Identifier: Apache-2.0
// Each script first finds the verb, one word or two, then has one case for each verb.

#include "tools/completion.h"

#include <stdbool.h>
#include <string.h>

#include "tools/verbs.h"

#define BEGIN_BYTES 128 // of a command of fish, up to the flag

// --- what the three have in common

// The bytes of a verb's first word.
static size_t first_word(const struct verb *verb)
{
    return strcspn(verb->args.name, " ");
}

static bool is_two_words(const struct verb *verb)
{
    return verb->args.name[first_word(verb)] != '\0';
}

// Whether verb i is the first of those that begin with its first word.
static bool begins_family(size_t i)
{
    size_t bytes = first_word(verbs[i]);
    for (size_t j = 0; j < i; j++)
        if (first_word(verbs[j]) == bytes &&
            memcmp(verbs[j]->args.name, verbs[i]->args.name, bytes) == 0)
            return false;
    return true;
}

static bool is_of_family(const struct verb *verb, const struct verb *first)
{
    size_t bytes = first_word(first);
    return first_word(verb) == bytes && memcmp(verb->args.name, first->args.name, bytes) == 0;
}

static void put_choices(FILE *file, const char *choices)
{
    for (const char *at = choices; *at; at++)
        (void)fputc(*at == '|' ? ' ' : *at, file);
}

// Verbs take --help without saying so in their tables.
static bool has_help(const struct args_verb *verb)
{
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk))
        if (strcmp(flag->name, "--help") == 0)
            return true;
    return false;
}

static enum args_value value_of_items(const struct args_verb *verb)
{
    enum args_value value = ARGS_VALUE_WORD;
    for (const char *word = verb->items; *word && value == ARGS_VALUE_WORD;) {
        value = args_value_of(word);
        word += strcspn(word, " ");
        word += strspn(word, " ");
        // The help shows flags that are needed among the items: their values are no items.
        if (strncmp(word, "--", 2) == 0)
            break;
    }
    return value;
}

// --- bash

static void put_bash_value(FILE *file, const struct args_flag *flag)
{
    (void)fprintf(file, "        %s%s%s) ", flag->name, flag->alias ? "|" : "",
                  flag->alias ? flag->alias : "");
    switch (flag->kind) {
    case ARGS_CHOICE:
        (void)fputs("_reco_words '", file);
        put_choices(file, flag->choices);
        (void)fputs("'", file);
        break;
    case ARGS_TEXT:
    case ARGS_LIST:
        switch (args_value_of(flag->argument)) {
        case ARGS_VALUE_FILE:
            (void)fputs("_reco_paths -f", file);
            break;
        case ARGS_VALUE_FOLDER:
            (void)fputs("_reco_paths -d", file);
            break;
        case ARGS_VALUE_WORD:
            (void)fputs(":", file);
            break;
        }
        break;
    case ARGS_SWITCH:
    case ARGS_COUNT:
    case ARGS_NUMBER:
    case ARGS_NUMBER_LIST:
        (void)fputs(":", file);
        break;
    }
    (void)fputs("; return ;;\n", file);
}

static void put_bash_verb(FILE *file, const struct args_verb *verb)
{
    struct args_walk walk = {.at = NULL};
    (void)fprintf(file, "    '%s')\n        case $before in\n", verb->name);
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk))
        if (flag->kind != ARGS_SWITCH)
            put_bash_value(file, flag);

    (void)fputs("        esac\n        flags='", file);
    walk = (struct args_walk){.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk))
        (void)fprintf(file, "%s%s%s ", flag->name, flag->alias ? " " : "",
                      flag->alias ? flag->alias : "");
    (void)fprintf(file, "%s'\n        items=%s ;;\n", has_help(verb) ? "" : "--help",
                  value_of_items(verb) == ARGS_VALUE_WORD ? "" : "-f");
}

// The second words behind `first`.
static void put_bash_family(FILE *file, const struct verb *first)
{
    (void)fprintf(file, "    %.*s)\n        ((COMP_CWORD > 2)) || { _reco_words '",
                  (int)first_word(first), first->args.name);
    for (size_t i = 0; i < verbs_count; i++)
        if (is_of_family(verbs[i], first))
            (void)fprintf(file, "%s ", verbs[i]->args.name + first_word(verbs[i]) + 1);
    (void)fputs("'; return; }\n        verb+=\" ${COMP_WORDS[2]}\" ;;\n", file);
}

// What begins every function: the word to complete, and the one before it.
static void put_bash_beginning(FILE *file, const char *function)
{
    (void)fprintf(file,
                  "# Completion for bash, written by reco's build.\n\n"
                  "_reco_words()\n{\n"
                  "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$word\")\n}\n\n"
                  "_reco_paths()\n{\n"
                  "    compopt -o filenames 2>/dev/null\n"
                  "    mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$word\")\n}\n\n"
                  "%s()\n{\n"
                  "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                  "    local verb=${COMP_WORDS[1]} flags= items=\n"
                  "    COMPREPLY=()\n"
                  "    # Bash takes --flag=VALUE apart at the sign.\n"
                  "    if [[ $word == = ]]; then\n"
                  "        word=\n"
                  "    elif [[ $before == = ]]; then\n"
                  "        before=${COMP_WORDS[COMP_CWORD-2]}\n"
                  "    fi\n",
                  function);
}

static void put_bash_end(FILE *file, const char *function, const char *program)
{
    (void)fprintf(file,
                  "    esac\n"
                  "    if [[ $word == -* ]]; then\n"
                  "        _reco_words \"$flags\"\n"
                  "    elif [[ $items ]]; then\n"
                  "        _reco_paths \"$items\"\n"
                  "    fi\n}\n\ncomplete -F %s %s\n",
                  function, program);
}

void completion_write_bash(FILE *file)
{
    put_bash_beginning(file, "_reco");
    (void)fputs("    ((COMP_CWORD > 1)) || { _reco_words '", file);
    for (size_t i = 0; i < verbs_count; i++)
        if (begins_family(i))
            (void)fprintf(file, "%.*s ", (int)first_word(verbs[i]), verbs[i]->args.name);
    (void)fputs("--help --version'; return; }\n    case $verb in\n", file);
    for (size_t i = 0; i < verbs_count; i++)
        if (begins_family(i) && is_two_words(verbs[i]))
            put_bash_family(file, verbs[i]);
    (void)fputs("    esac\n    case $verb in\n", file);
    for (size_t i = 0; i < verbs_count; i++)
        put_bash_verb(file, &verbs[i]->args);
    put_bash_end(file, "_reco", "reco");
}

void completion_write_bash_program(const struct args_verb *program, FILE *file)
{
    put_bash_beginning(file, "_reco_program");
    (void)fprintf(file, "    verb='%s'\n    case $verb in\n", program->name);
    put_bash_verb(file, program);
    put_bash_end(file, "_reco_program", program->name);
}

// --- zsh and fish quote alike: '...' where ' itself is '\''

static void put_quoted(FILE *file, const char *text, const char *escaped)
{
    for (const char *at = text; *at; at++) {
        if (*at == '\'')
            (void)fputs("'\\''", file);
        else if (strchr(escaped, *at))
            (void)fprintf(file, "\\%c", *at);
        else
            (void)fputc(*at, file);
    }
}

// --- zsh

static void put_zsh_action(FILE *file, const struct args_flag *flag)
{
    if (flag->kind == ARGS_CHOICE) {
        (void)fputs("(", file);
        put_choices(file, flag->choices);
        (void)fputs(")", file);
    } else if (flag->kind == ARGS_TEXT || flag->kind == ARGS_LIST) {
        enum args_value value = args_value_of(flag->argument);
        if (value != ARGS_VALUE_WORD)
            (void)fputs(value == ARGS_VALUE_FILE ? "_files" : "_files -/", file);
    }
}

static void put_zsh_flag(FILE *file, const struct args_flag *flag, const char *name)
{
    bool is_long = strncmp(name, "--", 2) == 0;
    (void)fputs(" \\\n            '", file);
    if (flag->kind == ARGS_LIST)
        (void)fputs("*", file);
    else if (flag->alias)
        (void)fprintf(file, "(%s %s)", flag->alias, flag->name);
    (void)fprintf(file, "%s%s[", name, flag->kind == ARGS_SWITCH || !is_long ? "" : "=");
    put_quoted(file, flag->help, "[]:\\");
    (void)fputs("]", file);
    if (flag->kind != ARGS_SWITCH) {
        (void)fputs(":", file);
        put_quoted(file, flag->argument, ":\\");
        (void)fputs(":", file);
        put_zsh_action(file, flag);
    }
    (void)fputs("'", file);
}

static void put_zsh_verb(FILE *file, const struct args_verb *verb)
{
    struct args_walk walk = {.at = NULL};
    (void)fprintf(file, "    '%s')\n        _arguments", verb->name);
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk)) {
        put_zsh_flag(file, flag, flag->name);
        if (flag->alias)
            put_zsh_flag(file, flag, flag->alias);
    }
    if (!has_help(verb))
        (void)fputs(" \\\n            '--help[this verb with its flags]'", file);
    (void)fprintf(file, " \\\n            '*:item:%s' ;;\n",
                  value_of_items(verb) == ARGS_VALUE_WORD ? "" : "_files");
}

static void put_zsh_words(FILE *file, const struct verb *first)
{
    for (size_t i = 0; i < verbs_count; i++) {
        const struct verb *verb = verbs[i];
        if (first ? !is_of_family(verb, first) : !begins_family(i))
            continue;
        size_t skipped = first ? first_word(verb) + 1 : 0;
        size_t bytes = first ? strlen(verb->args.name) - skipped : first_word(verb);
        (void)fprintf(file, " \\\n            '%.*s:", (int)bytes, verb->args.name + skipped);
        put_quoted(file, !first && is_two_words(verb) ? verb->chapter : verb->args.summary, ":\\");
        (void)fputs("'", file);
    }
    (void)fputs(")\n", file);
}

void completion_write_zsh(FILE *file)
{
    (void)fputs("#compdef reco\n# Completion for zsh, written by reco's build.\n\n"
                "_reco()\n{\n"
                "    local verb=$words[2]\n"
                "    local -a list\n"
                "    if ((CURRENT == 2)); then\n"
                "        list=(",
                file);
    put_zsh_words(file, NULL);
    (void)fputs("        _describe verb list\n        return\n    fi\n    case $verb in\n", file);
    for (size_t i = 0; i < verbs_count; i++) {
        if (!begins_family(i) || !is_two_words(verbs[i]))
            continue;
        (void)fprintf(file, "    %.*s)\n        list=(", (int)first_word(verbs[i]),
                      verbs[i]->args.name);
        put_zsh_words(file, verbs[i]);
        (void)fputs("        if ((CURRENT == 3)); then\n"
                    "            _describe verb list\n"
                    "            return\n"
                    "        fi\n"
                    "        verb+=\" $words[3]\"\n"
                    "        shift words\n"
                    "        ((CURRENT--)) ;;\n",
                    file);
    }
    (void)fputs("    esac\n    shift words\n    ((CURRENT--))\n    case $verb in\n", file);
    for (size_t i = 0; i < verbs_count; i++)
        put_zsh_verb(file, &verbs[i]->args);
    (void)fputs("    esac\n}\n\n_reco \"$@\"\n", file);
}

void completion_write_zsh_program(const struct args_verb *program, FILE *file)
{
    (void)fprintf(file,
                  "#compdef %s\n# Completion for zsh, written by reco's build.\n\n"
                  "case '%s' in\n",
                  program->name, program->name);
    put_zsh_verb(file, program);
    (void)fputs("esac\n", file);
}

// --- fish

static void put_fish_name(FILE *file, const char *name)
{
    bool is_long = strncmp(name, "--", 2) == 0;
    (void)fprintf(file, " -%c %s", is_long ? 'l' : 's', name + (is_long ? 2 : 1));
}

// `begin`: the command that the flag belongs to, as "complete -c reco -n '__reco_is search'".
static void put_fish_flag(FILE *file, const char *begin, const struct args_flag *flag)
{
    (void)fputs(begin, file);
    put_fish_name(file, flag->name);
    if (flag->alias)
        put_fish_name(file, flag->alias);

    enum args_value value = ARGS_VALUE_WORD;
    if (flag->kind == ARGS_TEXT || flag->kind == ARGS_LIST)
        value = args_value_of(flag->argument);
    if (flag->kind == ARGS_CHOICE) {
        (void)fputs(" -x -a '", file);
        put_choices(file, flag->choices);
        (void)fputs("'", file);
    } else if (flag->kind != ARGS_SWITCH) {
        static const char *const words[] = {
            [ARGS_VALUE_WORD] = " -x",
            [ARGS_VALUE_FILE] = " -r -F",
            [ARGS_VALUE_FOLDER] = " -x -a '(__fish_complete_directories)'",
        };
        (void)fputs(words[value], file);
    }
    (void)fputs(" -d '", file);
    put_quoted(file, flag->help, "\\");
    (void)fputs("'\n", file);
}

static void put_fish_flags(FILE *file, const char *begin, const struct args_verb *verb)
{
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk))
        put_fish_flag(file, begin, flag);
}

static void put_fish_words(FILE *file)
{
    for (size_t i = 0; i < verbs_count; i++) {
        const struct verb *verb = verbs[i];
        int bytes = (int)first_word(verb);
        if (begins_family(i)) {
            (void)fprintf(file, "complete -c reco -n '__reco_words 1' -a %.*s -d '", bytes,
                          verb->args.name);
            put_quoted(file, is_two_words(verb) ? verb->chapter : verb->args.summary, "\\");
            (void)fputs("'\n", file);
        }
        if (!is_two_words(verb))
            continue;
        (void)fprintf(file, "complete -c reco -n '__reco_words 2 %.*s' -a %s -d '", bytes,
                      verb->args.name, verb->args.name + bytes + 1);
        put_quoted(file, verb->args.summary, "\\");
        (void)fputs("'\n", file);
    }
}

void completion_write_fish(FILE *file)
{
    (void)fputs(
        "# Completion for fish, written by reco's build.\n\n"
        "# Whether the words of a verb begin the command line.\n"
        "function __reco_is\n"
        "    set -l words (commandline -opc)\n"
        "    set -l last (math 1 + (count $argv))\n"
        "    test \"$words[2..$last]\" = \"$argv\"\n"
        "end\n\n"
        "# Whether so many words are there, the program's name counted, and which follow it.\n"
        "function __reco_words\n"
        "    set -l words (commandline -opc)\n"
        "    test (count $words) -eq $argv[1]; and test \"$words[2]\" = \"$argv[2]\"\n"
        "end\n\n"
        "complete -c reco -f\n"
        "complete -c reco -n '__reco_words 1' -l help -d 'all verbs'\n"
        "complete -c reco -n '__reco_words 1' -l version -d 'the version of this program'\n",
        file);
    put_fish_words(file);
    for (size_t i = 0; i < verbs_count; i++) {
        const struct args_verb *verb = &verbs[i]->args;
        char begin[BEGIN_BYTES];
        (void)snprintf(begin, sizeof(begin), "complete -c reco -n '__reco_is %s'", verb->name);
        put_fish_flags(file, begin, verb);
        (void)fprintf(file, "%s -l help -d 'this verb'\n", begin);
        if (value_of_items(verb) != ARGS_VALUE_WORD)
            (void)fprintf(file, "%s -F\n", begin);
    }
}

void completion_write_fish_program(const struct args_verb *program, FILE *file)
{
    char begin[BEGIN_BYTES];
    (void)snprintf(begin, sizeof(begin), "complete -c %s", program->name);
    (void)fprintf(file, "# Completion for fish, written by reco's build.\n\n%s -f\n", begin);
    put_fish_flags(file, begin, program);
}
