/* sniff.c: naming what a file is from its first bytes, so that an error can
 * say more than "not a checkpoint".
 *
 * The most frequent broken checkpoints are no checkpoints at all: a pointer
 * that git LFS left, a login page that curl saved, a file of zeros that a full
 * disk left behind.
 */
#include "format/torchfile.h"

#include <string.h>
#include <strings.h>

/* Where `magic` stands, and what it says. Longer and more certain ones first. */
struct sniff_row { size_t at; const char *magic; size_t len; const char *words; };
#define MAGIC(at, bytes, words) { at, bytes, sizeof bytes - 1, words }
static const struct sniff_row rows[] = {
    MAGIC(0, "version https://git-lfs.github.com/spec/", "a git LFS pointer, not the file itself: run git lfs pull"),
    MAGIC(0, "PYTORCH1", "the container of the torch 1.0 preview"),
    MAGIC(257, "ustar", "a tar archive (torch 0.1 wrote such files): unpack it, or load and save it again with torch"),
    MAGIC(0, "\x89HDF\r\n\x1a\n", "an HDF5 file"),
    MAGIC(0, "\x93NUMPY", "a numpy array"),
    MAGIC(0, "\x1f\x8b", "gzip data: unpack it first"),
    MAGIC(0, "\x28\xb5\x2f\xfd", "zstd data: unpack it first"),
    MAGIC(0, "\xfd" "7zXZ\0", "xz data: unpack it first"),
    MAGIC(0, "BZh", "bzip2 data: unpack it first"),
    MAGIC(0, "\x04\x22\x4d\x18", "lz4 data: unpack it first"),
    MAGIC(0, "7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    MAGIC(0, "Rar!\x1a\x07", "a rar archive: unpack it first"),
    MAGIC(0, "GGUF", "a GGUF model (llama.cpp)"),
    MAGIC(0, "ggml", "a GGML model (llama.cpp)"),
    MAGIC(0, "ggjt", "a GGML model (llama.cpp)"),
    MAGIC(0, "%PDF-", "a PDF document"),
    MAGIC(0, "\x7f" "ELF", "an ELF program"),
    MAGIC(0, "\x89PNG", "a PNG image"),
    MAGIC(0, "SQLite format 3", "an SQLite database"),
    MAGIC(4, "ftyp", "an MP4 video"),
    MAGIC(0, "PK\x05\x06", "an empty zip archive"),
    MAGIC(0, "PK\x03\x04", "a zip archive"),
    MAGIC(0, "\xff\xd8\xff", "a JPEG image"),
    MAGIC(0, "#!", "a script"),
};

static bool starts_with(const char *s, size_t len, const char *word)
{
    size_t n = strlen(word);
    return len >= n && !strncasecmp(s, word, n);
}

/* Markup and other text, after blanks and a byte order mark. */
static const char *sniff_text(const char *s, size_t len)
{
    if (len >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) {
        s += 3;
        len -= 3;
    }
    while (len && (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')) {
        s++;
        len--;
    }
    if (starts_with(s, len, "<!doctype html") || starts_with(s, len, "<html") ||
        starts_with(s, len, "<head"))
        return "an HTML page (a download that was answered with a web page)";
    if (starts_with(s, len, "<?xml"))
        return "an XML document (a download that was answered with an error)";
    if (starts_with(s, len, "{") || starts_with(s, len, "["))
        return "JSON text";
    return NULL;
}

static bool all_are(const char *s, size_t len, char c)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != c)
            return false;
    return true;
}

static bool is_plain_text(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)s[i] < 32 && !strchr("\t\r\n", s[i])) || !s[i] ||
            (unsigned char)s[i] >= 127)
            return false;
    return true;
}

const char *sl_sniff(const void *head, size_t len)
{
    const char *s = head;
    if (!len)
        return "an empty file";
    if (len >= 4 && all_are(s, len, 0))
        return "all zero bytes at its beginning (an interrupted download or a full disk)";
    if (len >= 4 && all_are(s, len, '\xff'))
        return "all 0xff bytes at its beginning";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (len >= rows[i].at + rows[i].len && !memcmp(s + rows[i].at, rows[i].magic, rows[i].len))
            return rows[i].words;
    const char *words = sniff_text(s, len);
    if (words)
        return words;
    if (sl_torch_is(head, len))
        return "a pickle";
    uint64_t header = 0;
    for (size_t i = 0; i < 8 && len > 8; i++)
        header |= (uint64_t)(unsigned char)s[i] << (8 * i);
    if (len > 8 && header >= 2 && header <= 100000000 && s[8] == '{')
        return "a safetensors file";
    return is_plain_text(s, len) ? "plain text" : NULL;
}
