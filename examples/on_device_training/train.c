/*
 * train.c: train a network on handwritten digits with compiled graphs, without Python.
 *
 *     ./train FOLDER [--epochs N] [--resume] [--threads N]
 *
 * FOLDER is what export.py wrote. Every epoch prints the mean loss and the accuracy on held-back
 * digits; at the end the whole state of the training goes to FOLDER/state.bin, from which --resume
 * goes on in another process: the result is the same, bit for bit, as without the break.
 */
#define _POSIX_C_SOURCE 200112L /* clock_gettime */

#include "predict.h"
#include "step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXELS = 64, BATCH = 64, MOST_IMAGES = 1000000 };

typedef struct digits {
    int64_t count;
    float *images;   /* [count][PIXELS] */
    int64_t *labels; /* [count] */
} digits;

/* All that training needs to go on; what the file holds. */
typedef struct training {
    int64_t epoch;
    step_state state;
} training;

static training run; /* static: too large for the stacks of small devices */

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "train: %s: %s\n", what, why);
    exit(1);
}

static void check_step(step_status status)
{
    if (status != step_OK)
        stop("step", step_message(status));
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL)
        stop("memory", "out of it");
    return memory;
}

static const char *path_of(const char *folder, const char *name)
{
    static char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        stop(folder, "the path is too long");
    return path;
}

static digits read_digits(const char *path)
{
    int64_t header[3];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        stop(path, "cannot be opened");
    if (fread(header, sizeof header, 1, file) != 1 || header[0] != 0x5449474944
        || header[1] < 1 || header[1] > MOST_IMAGES || header[2] != PIXELS)
        stop(path, "is no file of digits");
    size_t count = (size_t)header[1];
    digits d = {header[1], allocate(count * PIXELS * sizeof(float)),
                allocate(count * sizeof(int64_t))};
    if (fread(d.images, PIXELS * sizeof *d.images, count, file) != count
        || fread(d.labels, sizeof *d.labels, count, file) != count)
        stop(path, "is too short");
    fclose(file);
    return d;
}

static void load_state(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        stop(path, "cannot be opened: train without --resume first");
    /* A state of another library is noticed by the first step (step_BAD_STATE). */
    if (fread(&run, sizeof run, 1, file) != 1 || fgetc(file) != EOF)
        stop(path, "is not the state of this program");
    fclose(file);
}

/* Write to another name first: whatever happens, the old or the new state is there whole. */
static void save_state(const char *folder)
{
    char temporary[4096];
    strcpy(temporary, path_of(folder, "state.new"));
    FILE *file = fopen(temporary, "wb");
    if (file == NULL || fwrite(&run, sizeof run, 1, file) != 1 || fclose(file) != 0)
        stop(temporary, "cannot be written");
    if (rename(temporary, path_of(folder, "state.bin")) != 0)
        stop(temporary, "cannot be renamed");
}

/* An order of the images that depends on the epoch alone (Fisher-Yates, with a 64-bit LCG). */
static void shuffle(int64_t *order, int64_t count, int64_t epoch)
{
    uint64_t random = (uint64_t)epoch + 1;
    for (int64_t k = 0; k < count; k++)
        order[k] = k;
    for (int64_t k = count - 1; k > 0; k--) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t other = (int64_t)((random >> 33) % (uint64_t)(k + 1));
        int64_t kept = order[k];
        order[k] = order[other];
        order[other] = kept;
    }
}

/* One epoch; returns the mean loss. `order` has room for all images. */
static double train_epoch(const digits *d, int64_t *order, void *workspace, size_t bytes)
{
    static float images[BATCH][PIXELS];
    static int64_t labels[BATCH];
    double sum = 0;
    shuffle(order, d->count, run.epoch);
    for (int64_t begin = 0; begin < d->count; begin += BATCH) {
        int64_t batch = d->count - begin < BATCH ? d->count - begin : BATCH;
        float loss;
        for (int64_t k = 0; k < batch; k++) {
            int64_t from = order[begin + k];
            memcpy(images[k], d->images + from * PIXELS, sizeof images[k]);
            labels[k] = d->labels[from];
        }
        check_step(step_run(&run.state, batch, images[0], labels, &loss, workspace, bytes));
        sum += (double)loss * (double)batch;
    }
    run.epoch++;
    return sum / (double)d->count;
}

/* The share of digits that are read right. `read` has room for all of them. */
static double accuracy(const digits *d, int64_t *read, void *workspace, size_t bytes)
{
    const step_state *s = &run.state;
    predict_status status = predict_run(d->count, d->images, s->w1[0], s->b1, s->w2[0], s->b2,
                                        read, workspace, bytes);
    int64_t right = 0;
    if (status != predict_OK)
        stop("predict", predict_message(status));
    for (int64_t k = 0; k < d->count; k++)
        right += read[k] == d->labels[k];
    return (double)right / (double)d->count;
}

int main(int argc, char **argv)
{
    int64_t epochs = 30;
    int resume = 0, threads = 1;
    for (int k = 2; k < argc; k++) {
        if (strcmp(argv[k], "--resume") == 0)
            resume = 1;
        else if (strcmp(argv[k], "--epochs") == 0 && k + 1 < argc)
            epochs = atoll(argv[++k]);
        else if (strcmp(argv[k], "--threads") == 0 && k + 1 < argc)
            threads = atoi(argv[++k]);
        else
            stop("unknown option", argv[k]);
    }
    if (argc < 2)
        stop("usage", "./train FOLDER [--epochs N] [--resume] [--threads N]");

    digits kept = read_digits(path_of(argv[1], "train.bin"));
    digits held = read_digits(path_of(argv[1], "test.bin"));
    if (resume)
        load_state(path_of(argv[1], "state.bin"));
    else
        check_step(step_state_init(&run.state));

    /* All memory, before the first step: the sizes depend on the threads, so these come first. */
    step_set_threads(threads);
    predict_set_threads(threads);
    size_t step_bytes = step_workspace_size(BATCH);
    size_t predict_bytes = predict_workspace_size(held.count);
    if (step_bytes == 0 || predict_bytes == 0)
        stop("processor", "not supported");
    size_t bytes = step_bytes > predict_bytes ? step_bytes : predict_bytes;
    void *workspace = allocate(bytes);
    int64_t *order = allocate((size_t)kept.count * sizeof *order);
    int64_t *read = allocate((size_t)held.count * sizeof *read);

    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int64_t last = run.epoch + epochs; run.epoch < last;) {
        double loss = train_epoch(&kept, order, workspace, bytes);
        double share = accuracy(&held, read, workspace, bytes);
        printf("epoch %lld  loss %.4f  test accuracy: %.2f%%\n", (long long)run.epoch, loss,
               100 * share);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    save_state(argv[1]);
    printf("%.3f s, %s, state %zu bytes, workspace %zu bytes\n",
           (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec),
           step_isa(), sizeof run.state, bytes);

    step_set_threads(1); /* ends the workers */
    predict_set_threads(1);
    free(read);
    free(order);
    free(workspace);
    free(held.labels);
    free(held.images);
    free(kept.labels);
    free(kept.images);
    return 0;
}
