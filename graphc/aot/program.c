/* ---- What is the same for every graph: arguments, .npy files, errors. ---- */

/* Everything that must go when the program stops. */
static void *held[2 * OPERANDS + 8];
static int held_count = 0;
static char *temporary[OPERANDS + 2];
static FILE *current = NULL;
static FILE *waiting[INPUTS + 1]; /* inputs whose data is not read yet */

static void release(void)
{
    if (current) {
        fclose(current);
        current = NULL;
    }
    for (int k = 0; k < INPUTS; k++) {
        if (waiting[k]) {
            fclose(waiting[k]);
            waiting[k] = NULL;
        }
    }
    for (int k = 0; k < OPERANDS + 2; k++) {
        if (temporary[k]) {
            remove(temporary[k]);
            temporary[k] = NULL;
        }
    }
    while (held_count > 0) {
        free(held[--held_count]);
    }
    weights_done();
    threads_to(1); /* ends the workers */
}

static void stop(int code, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s: ", PROGRAM);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (code == 2) {
        fprintf(stderr, "try --help\n");
    }
    release();
    exit(code);
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        stop(1, "no memory for %zu bytes", bytes);
    }
    held[held_count++] = memory;
    return memory;
}

/* ---- .npy files, see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html ---- */

enum { MOST_DIMS = 64, MOST_DESCR = 32, MOST_HEADER = 65536 };

typedef struct {
    char descr[MOST_DESCR];
    int fortran;
    int rank;
    int64_t shape[MOST_DIMS];
} npy_header;

static const struct {
    const char *descr, *name;
} DTYPES[] = {
    {"|b1", "bool"},   {"|i1", "int8"},    {"<i2", "int16"},   {"<i4", "int32"},
    {"<i8", "int64"},  {"|u1", "uint8"},   {"<u2", "uint16"},  {"<u4", "uint32"},
    {"<u8", "uint64"}, {"<f2", "float16"}, {"<f4", "float32"}, {"<f8", "float64"},
};

static const char *dtype_name(const char *descr)
{
    for (size_t k = 0; k < sizeof DTYPES / sizeof *DTYPES; k++) {
        if (strcmp(DTYPES[k].descr, descr) == 0) {
            return DTYPES[k].name;
        }
    }
    return "another dtype";
}

/* Reads the header's text from `at` to `end`; every read is checked against `end`. */
typedef struct {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at) {
        c->at++;
    }
}

static int take(cursor *c, char wanted)
{
    skip_space(c);
    if (c->at < c->end && *c->at == wanted) {
        c->at++;
        return 1;
    }
    return 0;
}

static int take_word(cursor *c, const char *word)
{
    const size_t length = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) >= length && memcmp(c->at, word, length) == 0) {
        c->at += length;
        return 1;
    }
    return 0;
}

static int take_string(cursor *c, char *out, size_t room)
{
    size_t length = 0;
    skip_space(c);
    if (c->at >= c->end || (*c->at != '\'' && *c->at != '"')) {
        return 0;
    }
    const char quote = *c->at++;
    while (c->at < c->end && *c->at != quote) {
        const char letter = *c->at++;
        if (letter < ' ' || letter > '~' || letter == '\\' || length + 1 >= room) {
            return 0;
        }
        out[length++] = letter;
    }
    out[length] = 0;
    return take(c, quote);
}

static int take_shape(cursor *c, npy_header *header)
{
    header->rank = 0;
    if (!take(c, '(')) {
        return 0;
    }
    while (!take(c, ')')) {
        int64_t size = 0;
        int digits = 0;
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++, digits++) {
            if (size > (INT64_MAX - 9) / 10) {
                return 0;
            }
            size = 10 * size + (*c->at - '0');
        }
        if (!digits || header->rank == MOST_DIMS) {
            return 0;
        }
        header->shape[header->rank++] = size;
        take(c, 'L'); /* a long integer, as old writers have it */
        if (!take(c, ',')) {
            return take(c, ')');
        }
    }
    return 1;
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } with the keys in any order. */
static int parse_header(const char *text, size_t length, npy_header *header)
{
    cursor c = {text, text + length};
    int seen = 0;
    if (!take(&c, '{')) {
        return 0;
    }
    while (!take(&c, '}')) {
        char key[MOST_DESCR];
        int bit = 0;
        int good = 0;
        if (!take_string(&c, key, sizeof key) || !take(&c, ':')) {
            return 0;
        }
        if (strcmp(key, "descr") == 0) {
            bit = 1;
            good = take_string(&c, header->descr, sizeof header->descr);
        } else if (strcmp(key, "fortran_order") == 0) {
            bit = 2;
            header->fortran = take_word(&c, "True");
            good = header->fortran || take_word(&c, "False");
        } else if (strcmp(key, "shape") == 0) {
            bit = 4;
            good = take_shape(&c, header);
        }
        if (!good || (seen & bit)) {
            return 0;
        }
        seen |= bit;
        if (!take(&c, ',')) {
            if (!take(&c, '}')) {
                return 0;
            }
            break;
        }
    }
    skip_space(&c);
    return seen == 7 && c.at == c.end;
}

static void not_npy(const char *path, const char *why)
{
    stop(1, "%s: expected a .npy file as numpy.save writes it: %s", path, why);
}

static void read_header(const char *path, npy_header *header)
{
    unsigned char start[12] = {0};
    if (fread(start, 1, 8, current) != 8 || memcmp(start, "\x93NUMPY", 6) != 0) {
        not_npy(path, "it does not start like one");
    }
    if (start[6] < 1 || start[6] > 3) {
        not_npy(path, "its format version is none of 1, 2 and 3");
    }
    const size_t width = start[6] == 1 ? 2 : 4;
    if (fread(start + 8, 1, width, current) != width) {
        not_npy(path, "it ends within the header");
    }
    const size_t length = (size_t)start[8] | (size_t)start[9] << 8 | (size_t)start[10] << 16 |
                          (size_t)start[11] << 24;
    if (length > MOST_HEADER) {
        not_npy(path, "its header is longer than 65536 bytes");
    }
    char *text = allocate(length);
    if (fread(text, 1, length, current) != length) {
        not_npy(path, "it ends within the header");
    }
    if (!parse_header(text, length, header)) {
        not_npy(path, "its header is damaged, or of a structured dtype");
    }
    held_count--; /* the last one allocated */
    free(text);
}

static void open_file(const char *path)
{
    current = fopen(path, "rb");
    if (!current) {
        stop(1, "%s: %s", path, strerror(errno));
    }
}

/* A shape as text: numbers. */
static const char *shape_of(const int64_t *shape, int rank, char *out, size_t room)
{
    size_t length = (size_t)snprintf(out, room, "[");
    for (int axis = 0; axis < rank && length < room; axis++) {
        const char *comma = axis ? ", " : "";
        length += (size_t)snprintf(out + length, room - length, "%s%" PRId64, comma, shape[axis]);
    }
    if (length < room) {
        snprintf(out + length, room - length, "]");
    }
    return out;
}

/* Opens the file of an input and compares dtype, order and number of dims. */
static void open_input(const operand *o, const char *path, npy_header *header)
{
    open_file(path);
    read_header(path, header);
    const int bits = *o->bits_descr && strcmp(header->descr, o->bits_descr) == 0;
    if (!bits && strcmp(header->descr, o->descr) != 0) {
        stop(1, "%s: input %s: expected dtype %s ('%s'), got %s ('%s')", path, o->option, o->dtype,
             o->descr, dtype_name(header->descr), header->descr);
    }
    if (header->fortran) {
        stop(1, "%s: input %s: expected C order, got Fortran order (use numpy.ascontiguousarray)",
             path, o->option);
    }
    if (header->rank != o->rank) {
        char text[256];
        stop(1, "%s: input %s: expected shape %s (%d dims), got %s (%d dims)", path, o->option,
             o->shape, o->rank, shape_of(header->shape, header->rank, text, sizeof text),
             header->rank);
    }
}

static void read_bytes(const char *path, void *memory, size_t bytes)
{
    const long at = ftell(current);
    if (at >= 0 && fseek(current, 0, SEEK_END) == 0) { /* a file; a pipe tells its end at its end */
        const long size = ftell(current);
        if (size < at || (size_t)(size - at) != bytes || fseek(current, at, SEEK_SET) != 0) {
            stop(1, "%s: expected %zu bytes of data, got %ld", path, bytes, size - at);
        }
    }
    const size_t got = fread(memory, 1, bytes, current);
    if (got != bytes || fgetc(current) != EOF) {
        stop(1, "%s: expected %zu bytes of data, got %s", path, bytes,
             got < bytes ? "fewer" : "more");
    }
    fclose(current);
    current = NULL;
}

static size_t count_of(const operand *o, const int64_t *shape)
{
    size_t count = 1;
    for (int axis = 0; axis < o->rank; axis++) {
        if (shape[axis] == 0) {
            return 0;
        }
    }
    for (int axis = 0; axis < o->rank; axis++) {
        count *= (size_t)shape[axis];
    }
    return count;
}

/* The elements of an input whose file is open. */
static void *read_input(const operand *o, const char *path, size_t count, int widened)
{
    const size_t size = widened ? 4 : o->size;
    unsigned char *memory = allocate(count * size);
    read_bytes(path, memory, count * size);
    for (size_t k = 0; strcmp(o->dtype, "bool") == 0 && k < count; k++) {
        if (memory[k] > 1) {
            stop(1, "%s: input %s: element %zu of dtype bool is %d", path, o->option, k, memory[k]);
        }
    }
    for (size_t k = 0; widened && k < count; k++) { /* bfloat16: the upper half of a float32 */
        if (memory[4 * k] || memory[4 * k + 1]) {
            stop(1, "%s: input %s: element %zu is not a bfloat16: round the values first", path,
                 o->option, k);
        }
        memory[2 * k] = memory[4 * k + 2];
        memory[2 * k + 1] = memory[4 * k + 3];
    }
    return memory;
}

/* Opens a new file beside `path`, kept in temporary[slot] until it is renamed. What is there and no
 * file (a pipe, a terminal) is written itself. */
static void create(const char *path, int slot)
{
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) {
        current = fopen(path, "wb");
    } else {
        const size_t room = strlen(path) + 32;
        char *name = allocate(room);
        snprintf(name, room, "%s.%ld.part", path, (long)getpid());
        const int descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (descriptor >= 0) {
            temporary[slot] = name;
            current = fdopen(descriptor, "wb");
        }
    }
    if (!current) {
        stop(1, "%s: %s", path, strerror(errno));
    }
}

static void write_bytes(const char *path, const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, current) != bytes) {
        stop(1, "%s: %s", path, strerror(errno));
    }
}

static void finish(const char *path)
{
    FILE *file = current;
    current = NULL;
    if (fclose(file) != 0) {
        stop(1, "%s: %s", path, strerror(errno));
    }
}

static void publish(const char *path, int slot)
{
    if (temporary[slot]) {
        if (rename(temporary[slot], path) != 0) {
            stop(1, "%s: %s", path, strerror(errno));
        }
        temporary[slot] = NULL;
    }
}

static void write_output(const operand *o, const char *path, const int64_t *shape,
                         const unsigned char *data, int slot)
{
    char header[128 + 24 * RANK];
    size_t length = 10;
    length += (size_t)snprintf(header + length, sizeof header - length,
                               "{'descr': '%s', 'fortran_order': False, 'shape': (", o->descr);
    for (int axis = 0; axis < o->rank; axis++) {
        length += (size_t)snprintf(header + length, sizeof header - length, "%s%" PRId64 "%s",
                                   axis ? " " : "", shape[axis],
                                   axis + 1 < o->rank || o->rank == 1 ? "," : "");
    }
    length += (size_t)snprintf(header + length, sizeof header - length, "), }");
    while ((length + 1) % 64) {
        header[length++] = ' ';
    }
    header[length++] = '\n';
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((length - 10) & 255);
    header[9] = (char)((length - 10) >> 8);
    const size_t count = count_of(o, shape);
    create(path, slot);
    write_bytes(path, header, length);
    if (*o->bits_descr) { /* bfloat16 as float32, exactly */
        for (size_t k = 0; k < count; k++) {
            const unsigned char wide[4] = {0, 0, data[2 * k], data[2 * k + 1]};
            write_bytes(path, wide, 4);
        }
    } else {
        write_bytes(path, data, count * o->size);
    }
    finish(path);
}

/* ---- Arguments. ---- */

enum { THREADS, STEPS, LOAD, SAVE, WEIGHTS, OPTIONS };
static const char *const OPTION_NAMES[OPTIONS] = {"threads", "steps", "state", "save-state",
                                                  "weights"};

typedef struct {
    const char *option[OPTIONS];
    const char *size[SIZES + 1];
    const char *path[OPERANDS + 1];
} arguments;

/* Where the value of the option `name` goes; NULL: there is no such option. */
static const char **place_of(arguments *a, const char *name)
{
    for (int k = 0; k < OPERANDS; k++) {
        if (strcmp(name, OPERAND[k].option) == 0) {
            return &a->path[k];
        }
    }
    for (int k = 0; k < SIZES; k++) {
        if (strcmp(name, SIZE[k].option) == 0) {
            return &a->size[k];
        }
    }
    for (int k = 0; k < OPTIONS; k++) {
        const int has = k == THREADS || (k == WEIGHTS ? HAS_WEIGHTS : HAS_STATE);
        if (has && strcmp(name, OPTION_NAMES[k]) == 0) {
            return &a->option[k];
        }
    }
    return NULL;
}

static void read_arguments(arguments *a, int argc, char **argv)
{
    for (int k = 1; k < argc; k++) {
        char name[256] = "";
        const char *value = NULL;
        const char *equal = strchr(argv[k], '=');
        if (strncmp(argv[k], "--", 2) == 0) {
            const size_t length = equal ? (size_t)(equal - argv[k]) - 2 : strlen(argv[k] + 2);
            if (length < sizeof name) {
                memcpy(name, argv[k] + 2, length);
                name[length] = 0;
            }
        }
        if (strcmp(name, "help") == 0 || strcmp(argv[k], "-h") == 0) {
            print_help();
            release();
            exit(0);
        }
        const char **place = *name ? place_of(a, name) : NULL;
        if (!place) {
            stop(2, "unknown argument %s", argv[k]);
        }
        value = equal ? equal + 1 : k + 1 < argc ? argv[++k] : "";
        if (!*value) {
            stop(2, "--%s needs a value", name);
        }
        if (*place) {
            stop(2, "--%s is given twice", name);
        }
        *place = value;
    }
}

static int64_t number(const char *option, const char *text, int64_t least, int64_t most)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        stop(2, "--%s: expected a whole number from %" PRId64 " to %" PRId64 ", got %s", option,
             least, most, text);
    }
    return value;
}

static void check_arguments(const arguments *a)
{
    int outputs = a->option[SAVE] != NULL;
    for (int k = 0; k < OPERANDS; k++) {
        if (k < INPUTS && !a->path[k]) {
            stop(2, "no file for input %s: --%s FILE.npy", OPERAND[k].option, OPERAND[k].option);
        }
        outputs += k >= INPUTS && a->path[k];
        for (int j = INPUTS; j < k; j++) {
            if (a->path[k] && a->path[j] && strcmp(a->path[k], a->path[j]) == 0) {
                stop(2, "two outputs go to %s", a->path[k]);
            }
        }
    }
    if (!outputs) {
        stop(2, "no file for any output: --%s FILE.npy",
             OUTPUTS ? OPERAND[INPUTS].option : "save-state");
    }
}

/* ---- Sizes: from options, then from dims of inputs that are a size alone. ---- */

static void set_size(int k, int64_t value, const char *from, int64_t *n, const char **origin)
{
    if (origin[k]) {
        return; /* compared when all shapes are known */
    }
    if (value < SIZE[k].least || value > SIZE[k].most || value % SIZE[k].multiple) {
        stop(1, "%s: the size %s = %" PRId64 " is out of its bounds (%s)", from, SIZE[k].option,
             value, SIZE[k].bounds);
    }
    n[k] = value;
    origin[k] = from;
}

static void check_shape(const operand *o, const char *path, const int64_t *got,
                        const int64_t *expected, const char *const *origin)
{
    for (int axis = 0; axis < o->rank; axis++) {
        if (got[axis] != expected[axis]) {
            char text[256];
            const int symbol = o->symbol[axis];
            stop(1, "%s: input %s, dim %d: expected %" PRId64 "%s%s, got %" PRId64
                    " (shape %s, declared %s)",
                 path, o->option, axis, expected[axis], symbol < 0 ? "" : " as from ",
                 symbol < 0 ? "" : origin[symbol], got[axis],
                 shape_of(got, o->rank, text, sizeof text), o->shape);
        }
    }
}

static void find_sizes(const arguments *a, const npy_header *headers, int64_t *n,
                       const char **origin)
{
    for (int k = 0; k < SIZES; k++) {
        if (a->size[k]) {
            set_size(k, number(SIZE[k].option, a->size[k], 0, INT64_MAX), "the command line", n,
                     origin);
        }
    }
    for (int k = 0; k < INPUTS; k++) {
        for (int axis = 0; axis < OPERAND[k].rank; axis++) {
            if (OPERAND[k].symbol[axis] >= 0) {
                set_size(OPERAND[k].symbol[axis], headers[k].shape[axis], a->path[k], n, origin);
            }
        }
    }
    for (int k = 0; k < SIZES; k++) {
        if (!origin[k]) {
            stop(2, "no input tells the size %s: --%s N", SIZE[k].option, SIZE[k].option);
        }
    }
}

static void check(int status)
{
    if (status) {
        stop(1, "%s", message_of(status));
    }
}

/* ---- The program. ---- */

static void prepare(const arguments *a, const char *self)
{
    if (HAS_WEIGHTS) { /* beside the program, unless told */
        const char *slash = strrchr(self, '/');
        const size_t folder = slash ? (size_t)(slash - self) + 1 : 0;
        const size_t room = folder + sizeof PROGRAM + sizeof ".safetensors";
        char *beside = allocate(room);
        snprintf(beside, room, "%.*s%s.safetensors", (int)folder, self, PROGRAM);
        const char *path = a->option[WEIGHTS] ? a->option[WEIGHTS] : beside;
        const int status = weights_at(path);
        if (status) {
            stop(1, "%s: %s", path, message_of(status));
        }
    }
}

static void *state_of(const arguments *a)
{
    void *state = NULL;
    if (HAS_STATE) {
        state = allocate(STATE_BYTES);
        check(first_values(state));
        if (a->option[LOAD]) {
            open_file(a->option[LOAD]);
            read_bytes(a->option[LOAD], state, STATE_BYTES);
        }
    }
    return state;
}

static void write_results(const arguments *a, int64_t (*shape)[RANK], void *const *array,
                          const void *state)
{
    for (int k = INPUTS; k < OPERANDS; k++) {
        if (a->path[k]) {
            write_output(&OPERAND[k], a->path[k], shape[k], array[k], k);
        }
    }
    if (a->option[SAVE]) {
        create(a->option[SAVE], OPERANDS);
        write_bytes(a->option[SAVE], state, STATE_BYTES);
        finish(a->option[SAVE]);
    }
    for (int k = INPUTS; k < OPERANDS; k++) {
        if (a->path[k]) {
            publish(a->path[k], k);
        }
    }
    if (a->option[SAVE]) {
        publish(a->option[SAVE], OPERANDS);
    }
}

int main(int argc, char **argv)
{
    static arguments a;
    static npy_header headers[INPUTS + 1];
    static int64_t shape[OPERANDS + 1][RANK];
    static void *array[OPERANDS + 1];
    int64_t n[SIZES + 1] = {0};
    const char *origin[SIZES + 1] = {NULL};

    read_arguments(&a, argc, argv);
    check_arguments(&a);
    if (a.option[THREADS]) {
        threads_to((int32_t)number("threads", a.option[THREADS], 1, 256));
    }
    const int64_t steps = a.option[STEPS] ? number("steps", a.option[STEPS], 1, INT64_MAX) : 1;

    for (int k = 0; k < INPUTS; k++) {
        open_input(&OPERAND[k], a.path[k], &headers[k]);
        waiting[k] = current;
        current = NULL;
    }
    find_sizes(&a, headers, n, origin);
    const size_t bytes = bytes_needed(n);
    if (bytes == 0) {
        stop(1, "%s", message_of(strcmp(isa_in_use(), "none") ? BAD_SIZE : UNSUPPORTED_CPU));
    }
    find_shapes(n, shape);
    for (int k = 0; k < INPUTS; k++) {
        check_shape(&OPERAND[k], a.path[k], headers[k].shape, shape[k], origin);
    }
    for (int k = 0; k < OPERANDS; k++) {
        const size_t count = count_of(&OPERAND[k], shape[k]);
        if (k < INPUTS) {
            const int widened =
                *OPERAND[k].bits_descr && strcmp(headers[k].descr, OPERAND[k].descr) == 0;
            current = waiting[k];
            waiting[k] = NULL;
            array[k] = read_input(&OPERAND[k], a.path[k], count, widened);
        } else {
            array[k] = allocate(count * OPERAND[k].size);
        }
    }
    prepare(&a, argv[0]);
    void *state = state_of(&a);
    void *workspace = allocate(bytes);
    for (int64_t step = 0; step < steps; step++) {
        check(call(state, n, array, workspace, bytes));
    }
    write_results(&a, shape, array, state);
    release();
    return 0;
}
