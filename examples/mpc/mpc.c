/*
 * mpc.c: swing a pendulum up and hold it, with model-predictive control of a neural model at 1 kHz.
 *
 *     ./mpc [seconds of simulated time]
 *
 * Each millisecond the controller improves its plan by one iteration of iterative LQR (Tassa,
 * Mansard & Todorov 2014, with limits on the control) over 40 steps of the compiled model and its
 * Jacobians. The pendulum itself is simulated from its equations. The torque is too small to lift
 * it directly: it has to swing. No memory is allocated after the start.
 */
#define _POSIX_C_SOURCE 200112L /* clock_gettime */

#include "pendulum.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HORIZON = 40, MOST_TICKS = 60000, WORKSPACE = 1 << 16 };

/* s; STEP and the next line are as in export.py. */
static const double TICK = 1e-3, STEP = 0.05;
static const double GRAVITY = 9.81, FRICTION = 0.05, TORQUE = 4.0;
/* The cost to keep low: 1 - cos(angle) and the squares; at the end of the plan it counts more. */
static const double COST_ANGLE = 1, COST_VELOCITY = 0.1, COST_TORQUE = 0.02, COST_END = 20;

/* What the model says of one step: of its Jacobians, rows are the next state's elements. */
typedef struct model_step {
    double next[2], by_state[2][2], by_torque[2];
} model_step;

/* A plan: torques u, the states x that the model expects of them, and the feedback around them. */
typedef struct plan {
    double x[HORIZON + 1][2], u[HORIZON];
    double change[HORIZON], gain[HORIZON][2];
    model_step steps[HORIZON];
    double cost, damping;
} plan;

static char workspace[WORKSPACE];
static float call_us[(size_t)MOST_TICKS * HORIZON], tick_us[MOST_TICKS]; /* how long each took */
static size_t calls;

static void stop(const char *what)
{
    fprintf(stderr, "mpc: %s\n", what);
    exit(1);
}

static double microseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static double limited(double torque)
{
    return fmax(-TORQUE, fmin(TORQUE, torque));
}

static void call_model(const double state[2], double torque, model_step *out)
{
    pendulum_status status = pendulum_run(state, &torque, out->next, out->by_state[0],
                                          out->by_torque, workspace, sizeof workspace);
    if (status != pendulum_OK)
        stop(pendulum_message(status));
}

/* The cost of a state, with its gradient and curvature (diagonal, never negative) on request. */
static double state_cost(const double x[2], double scale, double gradient[2], double curvature[2])
{
    if (gradient != NULL) {
        gradient[0] = scale * COST_ANGLE * sin(x[0]);
        gradient[1] = scale * COST_VELOCITY * x[1];
        curvature[0] = scale * COST_ANGLE * fmax(cos(x[0]), 0);
        curvature[1] = scale * COST_VELOCITY;
    }
    return scale * (COST_ANGLE * (1 - cos(x[0])) + 0.5 * COST_VELOCITY * x[1] * x[1]);
}

/* Follow the torques of `p` from its first state; the model's steps and the cost are kept in it. */
static void roll_out(plan *p)
{
    p->cost = 0;
    for (int k = 0; k < HORIZON; k++) {
        double begin = microseconds(CLOCK_MONOTONIC);
        call_model(p->x[k], p->u[k], &p->steps[k]);
        call_us[calls++] = (float)(microseconds(CLOCK_MONOTONIC) - begin);
        memcpy(p->x[k + 1], p->steps[k].next, sizeof p->x[k + 1]);
        p->cost += state_cost(p->x[k], 1, NULL, NULL) + 0.5 * COST_TORQUE * p->u[k] * p->u[k];
    }
    p->cost += state_cost(p->x[HORIZON], COST_END, NULL, NULL);
}

/* Feedback that improves the plan: v is the gradient, w the Hessian of the cost to go. */
static void backward(plan *p)
{
    double v[2], w[2][2] = {{0, 0}, {0, 0}}, c[2];
    state_cost(p->x[HORIZON], COST_END, v, c);
    w[0][0] = c[0];
    w[1][1] = c[1];
    for (int k = HORIZON - 1; k >= 0; k--) {
        double (*a)[2] = p->steps[k].by_state, *b = p->steps[k].by_torque;
        double wa[2][2], qx[2], qxx[2][2], qux[2];
        double wb[2] = {w[0][0] * b[0] + w[0][1] * b[1], w[1][0] * b[0] + w[1][1] * b[1]};
        double qu = COST_TORQUE * p->u[k] + b[0] * v[0] + b[1] * v[1];
        double quu = COST_TORQUE + b[0] * wb[0] + b[1] * wb[1] + p->damping;
        state_cost(p->x[k], 1, qx, c);
        for (int i = 0; i < 2; i++) {
            qx[i] += a[0][i] * v[0] + a[1][i] * v[1];
            qux[i] = wb[0] * a[0][i] + wb[1] * a[1][i];
            for (int j = 0; j < 2; j++)
                wa[i][j] = w[i][0] * a[0][j] + w[i][1] * a[1][j];
        }
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++)
                qxx[i][j] = a[0][i] * wa[0][j] + a[1][i] * wa[1][j] + (i == j ? c[i] : 0);

        double wanted = p->u[k] - qu / quu, allowed = limited(wanted);
        double free = wanted == allowed ? 1 : 0; /* at a limit there is no feedback */
        double d = p->change[k] = allowed - p->u[k];
        double *g = p->gain[k];
        for (int i = 0; i < 2; i++)
            g[i] = -free * qux[i] / quu;
        for (int i = 0; i < 2; i++) {
            v[i] = qx[i] + g[i] * (quu * d + qu) + qux[i] * d;
            for (int j = 0; j < 2; j++)
                w[i][j] = qxx[i][j] + g[i] * quu * g[j] + g[i] * qux[j] + qux[i] * g[j];
        }
    }
}

/* The plan that the feedback of `p` leads to. */
static void forward(const plan *p, plan *better)
{
    memcpy(better->x[0], p->x[0], sizeof p->x[0]);
    better->cost = 0;
    for (int k = 0; k < HORIZON; k++) {
        const double *x = better->x[k], *g = p->gain[k];
        double back = g[0] * (x[0] - p->x[k][0]) + g[1] * (x[1] - p->x[k][1]);
        double u = better->u[k] = limited(p->u[k] + p->change[k] + back);
        call_model(x, u, &better->steps[k]);
        memcpy(better->x[k + 1], better->steps[k].next, sizeof better->x[k + 1]);
        better->cost += state_cost(x, 1, NULL, NULL) + 0.5 * COST_TORQUE * u * u;
    }
    better->cost += state_cost(better->x[HORIZON], COST_END, NULL, NULL);
}

/* One iteration from the measured state; returns the torque to apply now. */
static double control(plan *p, plan *scratch, const double state[2])
{
    memcpy(p->x[0], state, sizeof p->x[0]);
    roll_out(p);
    backward(p);
    forward(p, scratch);
    if (scratch->cost < p->cost) {
        memcpy(p->u, scratch->u, sizeof p->u);
        p->damping = fmax(p->damping / 2, 1e-6);
    } else {
        p->damping = fmin(p->damping * 4, 1e3);
    }
    double now = p->u[0];
    /* The plan moves on with time: by a tick, which is a part of its steps. */
    for (int k = 0; k + 1 < HORIZON; k++)
        p->u[k] += TICK / STEP * (p->u[k + 1] - p->u[k]);
    return now;
}

static void motion(const double x[2], double torque, double out[2])
{
    out[0] = x[1];
    out[1] = GRAVITY * sin(x[0]) - FRICTION * x[1] + torque;
}

/* The real pendulum, one tick on: the midpoint rule. */
static void simulate(double x[2], double torque)
{
    double k[2], middle[2];
    motion(x, torque, k);
    for (int i = 0; i < 2; i++)
        middle[i] = x[i] + TICK / 2 * k[i];
    motion(middle, torque, k);
    for (int i = 0; i < 2; i++)
        x[i] += TICK * k[i];
}

/* The largest difference between the model's Jacobian and central differences of the model. */
static double jacobian_error(void)
{
    const double at[2] = {2.5, -1.5}, torque = 0.7, h = 1e-5;
    double worst = 0;
    model_step exact, above, below;
    call_model(at, torque, &exact);
    for (int j = 0; j < 3; j++) {
        double up[2] = {at[0], at[1]}, down[2] = {at[0], at[1]};
        if (j < 2) {
            up[j] += h;
            down[j] -= h;
        }
        call_model(up, j == 2 ? torque + h : torque, &above);
        call_model(down, j == 2 ? torque - h : torque, &below);
        for (int i = 0; i < 2; i++) {
            double slope = (above.next[i] - below.next[i]) / (2 * h);
            double said = j < 2 ? exact.by_state[i][j] : exact.by_torque[i];
            worst = fmax(worst, fabs(slope - said));
        }
    }
    return worst;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static plan p, scratch;
    double state[2] = {acos(-1), 0}; /* hanging at rest */
    int ticks = (int)((argc > 1 ? atof(argv[1]) : 10) / TICK + 0.5);
    double own_us = 0; /* the longest tick without the time that other programs took */
    int late = 0, up = -1;
    if (ticks < 1 || ticks > MOST_TICKS)
        stop("usage: ./mpc [seconds of simulated time, at most 60]");
    size_t needed = pendulum_workspace_size();
    if (needed == 0 || needed > sizeof workspace)
        stop("the processor is not supported, or WORKSPACE is too small");
    printf("Jacobian: within %.1e of finite differences\n", jacobian_error());

    p.damping = 1;
    for (int k = 0; k < HORIZON; k++)
        p.u[k] = 0.1; /* without a push, hanging at rest is a balance that no gradient leaves */
    for (int tick = 0; tick < ticks; tick++) {
        double begin = microseconds(CLOCK_MONOTONIC), own = microseconds(CLOCK_THREAD_CPUTIME_ID);
        double torque = control(&p, &scratch, state);
        own_us = fmax(own_us, microseconds(CLOCK_THREAD_CPUTIME_ID) - own);
        tick_us[tick] = (float)(microseconds(CLOCK_MONOTONIC) - begin);
        late += tick_us[tick] > 1e6 * TICK;
        simulate(state, torque);
        if (cos(state[0]) < 0.99)
            up = -1;
        else if (up < 0)
            up = tick;
        if (tick % 500 == 499)
            printf("%4.1f s  angle %7.4f rad  velocity %7.4f rad/s  torque %7.4f N m\n",
                   (tick + 1) * TICK, remainder(state[0], 2 * acos(-1)), state[1], torque);
    }

    qsort(call_us, calls, sizeof *call_us, compare);
    qsort(tick_us, (size_t)ticks, sizeof *tick_us, compare);
    if (up < 0)
        printf("not upright\n");
    else
        printf("upright since %.2f s, angle %.1e rad\n", up * TICK,
               fabs(remainder(state[0], 2 * acos(-1))));
    printf("model and Jacobians: median %.2f us, worst %.2f us of %zu calls (%s)\n",
           (double)call_us[calls / 2], (double)call_us[calls - 1], calls, pendulum_isa());
    printf("control: median %.1f us, worst %.1f us (%.1f us of its own); within 1 ms in %d of %d "
           "ticks\n",
           (double)tick_us[ticks / 2], (double)tick_us[ticks - 1], own_us, ticks - late, ticks);
    return up < 0;
}
