/* Classify the digits of a file that export.py wrote: ./serve test.bin [batch] [threads] */
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXELS = 64, CLASSES = 10, MOST = 1000000 };

static void check(int good, const char *what, const char *why)
{
    if (!good) {
        fprintf(stderr, "serve: %s: %s\n", what, why);
        exit(1);
    }
}

static void *read_array(FILE *file, int64_t count, size_t size)
{
    void *array = malloc((size_t)count * size);
    check(array && fread(array, size, (size_t)count, file) == (size_t)count, "file", "too short");
    return array;
}

int main(int argc, char **argv)
{
    check(argc > 1, "usage", "./serve test.bin [batch] [threads]");
    int64_t header[3] = {0}, batch = argc > 2 ? atoll(argv[2]) : 64, right = 0;
    digits_set_threads(argc > 3 ? atoi(argv[3]) : 1);
    FILE *file = fopen(argv[1], "rb");
    check(file && fread(header, sizeof header, 1, file) == 1, argv[1], "cannot be read");
    check(header[0] == 0x5449474944 && header[2] == PIXELS && header[1] > 0 && header[1] <= MOST,
          argv[1], "is no file of digits");
    int64_t n = header[1];
    float *images = read_array(file, n * PIXELS, sizeof *images);
    int64_t *labels = read_array(file, n, sizeof *labels);
    float *expected = read_array(file, n * CLASSES, sizeof *expected);
    float *p = calloc((size_t)n * CLASSES, sizeof *p);
    size_t bytes = digits_workspace_size(batch); /* enough for smaller batches too; 0: impossible */
    void *workspace = malloc(bytes);
    check(batch > 0 && bytes && workspace && p, "batch", "no size that fits");

    clock_t begin = clock();
    for (int64_t k = 0; k < n; k += batch) {
        digits_status status = digits_run(n - k < batch ? n - k : batch, images + k * PIXELS,
                                          p + k * CLASSES, workspace, bytes);
        check(status == digits_OK, "digits_run", digits_message(status));
    }
    double taken = (double)(clock() - begin) / CLOCKS_PER_SEC;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = 0;
        for (int64_t c = 1; c < CLASSES; c++)
            best = p[k * CLASSES + c] > p[k * CLASSES + best] ? c : best;
        right += best == labels[k];
    }
    int same = memcmp(p, expected, (size_t)n * CLASSES * sizeof *p) == 0;
    printf("accuracy: %.2f%% of %lld digits\n", 100.0 * (double)right / (double)n, (long long)n);
    printf("probabilities: %s\n", same ? "equal to the session's, bit for bit" : "DIFFERENT");
    printf("speed: %.0f images/s of processor time (batch %lld, %d threads, %s, workspace %zu bytes)\n",
           (double)n / taken, (long long)batch, digits_threads(), digits_isa(), bytes);
    digits_set_threads(1); /* ends the workers */
    fclose(file), free(workspace), free(p), free(expected), free(labels), free(images);
    return same ? 0 : 1;
}
