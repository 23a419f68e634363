/*
 * serve.c: classify the digits of a file with the compiled network, without Python.
 *
 *     ./serve test.bin [batch] [threads]
 *
 * Prints the accuracy, whether the probabilities are those of the Python session bit for bit, and
 * how many images are classified in a second. export.py describes the file.
 */
#define _POSIX_C_SOURCE 200112L /* clock_gettime */

#include "digits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXELS = 64, CLASSES = 10, MOST_IMAGES = 1000000 };

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "serve: %s: %s\n", what, why);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL)
        stop("memory", "out of it");
    return memory;
}

static void *read_array(FILE *file, int64_t count, size_t itemsize)
{
    void *array = allocate((size_t)count * itemsize);
    if (fread(array, itemsize, (size_t)count, file) != (size_t)count)
        stop("test file", "too short");
    return array;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Classify all images, `batch` at a time: the last call may have fewer. */
static void classify(int64_t count, int64_t batch, const float *images, float *probabilities,
                     void *workspace, size_t workspace_bytes)
{
    for (int64_t k = 0; k < count; k += batch) {
        int64_t now = count - k < batch ? count - k : batch;
        digits_status status = digits_run(now, images + k * PIXELS, probabilities + k * CLASSES,
                                          workspace, workspace_bytes);
        if (status != digits_OK)
            stop("digits_run", digits_message(status));
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        stop("usage", "./serve test.bin [batch] [threads]");
    int64_t batch = argc > 2 ? atoll(argv[2]) : 64;
    int32_t threads = digits_set_threads(argc > 3 ? atoi(argv[3]) : 1);
    FILE *file = fopen(argv[1], "rb");
    int64_t header[3];
    if (file == NULL)
        stop(argv[1], "cannot be opened");
    if (fread(header, sizeof header, 1, file) != 1 || header[0] != 0x5449474944
        || header[1] < 1 || header[1] > MOST_IMAGES || header[2] != PIXELS)
        stop(argv[1], "is no file of digits");
    int64_t count = header[1];
    float *images = read_array(file, count * PIXELS, sizeof *images);
    int64_t *labels = read_array(file, count, sizeof *labels);
    float *expected = read_array(file, count * CLASSES, sizeof *expected);
    float *probabilities = allocate((size_t)count * CLASSES * sizeof *probabilities);
    fclose(file);

    /* The sizes of the first call: no later one needs more. */
    size_t bytes = batch > 0 ? digits_workspace_size(batch) : 0;
    if (bytes == 0)
        stop("batch", "no size that the library takes");
    void *workspace = allocate(bytes);
    classify(count, batch, images, probabilities, workspace, bytes);

    int64_t right = 0;
    for (int64_t k = 0; k < count; k++) {
        const float *p = probabilities + k * CLASSES;
        int best = 0;
        for (int c = 1; c < CLASSES; c++)
            best = p[c] > p[best] ? c : best;
        right += best == labels[k];
    }
    int same = memcmp(probabilities, expected, (size_t)count * CLASSES * sizeof *expected) == 0;
    printf("accuracy: %.2f%% of %lld digits\n", 100.0 * (double)right / (double)count,
           (long long)count);
    printf("probabilities: %s\n", same ? "equal to the session's, bit for bit" : "DIFFERENT");

    double begin = seconds(), taken = 0;
    int64_t rounds = 0;
    for (; taken < 0.2; rounds++, taken = seconds() - begin)
        classify(count, batch, images, probabilities, workspace, bytes);
    printf("speed: %.0f images/s (batch %lld, %d thread%s, %s, workspace %zu bytes)\n",
           (double)(rounds * count) / taken, (long long)batch, (int)threads, threads > 1 ? "s" : "",
           digits_isa(), bytes);

    digits_set_threads(1); /* ends the workers */
    free(workspace);
    free(probabilities);
    free(expected);
    free(labels);
    free(images);
    return same ? 0 : 1;
}
