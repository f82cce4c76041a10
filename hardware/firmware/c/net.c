/* The net: 8-bit steps, each equal to hardware/firmware/net.py to the last bit. Compile with -ffp-contract=off. */
#include <string.h>

#include "jt.h"

static int8_t patch[JT_PATCH > 0 ? JT_PATCH : 1];

static int8_t clamp(const struct jt_op *op, int32_t value)
{
    return (int8_t)(value < op->low ? op->low : value > op->high ? op->high : value);
}

#if JT_FIXED
/* MultiplyByQuantizedMultiplier of TensorFlow Lite's reference: rounded twice. */
static int32_t multiplied(int32_t acc, int32_t multiplier, int32_t exponent)
{
    const int64_t product = (int64_t)acc * ((int64_t)1 << (exponent > 0 ? exponent : 0)) * multiplier;
    const int64_t nudged = product + (product >= 0 ? INT64_C(1) << 30 : 1 - (INT64_C(1) << 30));
    const int32_t quotient = (int32_t)(nudged / (INT64_C(1) << 31));
    const int32_t right = exponent > 0 ? 0 : -exponent;
    const int64_t mask = (INT64_C(1) << right) - 1;
    const int64_t rest = (int64_t)quotient & mask;
    const int64_t limit = (mask >> 1) + (quotient < 0 ? 1 : 0);
    return (int32_t)(((int64_t)quotient >> right) + (rest > limit ? 1 : 0));
}

static int8_t scaled(const struct jt_op *op, int32_t acc, uint32_t channel)
{
    const uint32_t at = op->per_channel ? channel : 0;
    return clamp(op, multiplied(acc, op->multiplier[at], op->exponent[at]) + op->out_zero);
}
#else
/* To the nearest whole number, halves to even: what is added leaves no bits for a fraction. */
static int8_t rounded(const struct jt_op *op, float value)
{
    const float limit = 65536.0f, lift = 12582912.0f;
    volatile float lifted = (value > limit ? limit : value < -limit ? -limit : value) + lift;
    return clamp(op, (int32_t)(lifted - lift) + op->out_zero);
}

static int8_t scaled(const struct jt_op *op, int32_t acc, uint32_t channel)
{
    return rounded(op, (float)acc * op->factor[op->per_channel ? channel : 0]);
}
#endif

/* The window of an output place, in the order of the weights; outside of the map is the zero point. */
static const int8_t *gather(const struct jt_op *op, const int8_t *x, uint32_t row, uint32_t column)
{
    const uint32_t channels = op->in_c;
    if (x && op->kernel_h == 1 && op->kernel_w == 1 && op->pad_h == 0 && op->pad_w == 0)
        return x + ((row * op->stride_h) * op->in_w + column * op->stride_w) * channels;
    int8_t *to = patch;
    for (uint32_t i = 0; i < op->kernel_h; i++) {
        const int32_t r = (int32_t)(row * op->stride_h + i) - op->pad_h;
        for (uint32_t j = 0; j < op->kernel_w; j++, to += channels) {
            const int32_t c = (int32_t)(column * op->stride_w + j) - op->pad_w;
            if (r < 0 || c < 0 || r >= op->in_h || c >= op->in_w) {
                memset(to, op->in_zero, channels);
                continue;
            }
            const uint32_t at = ((uint32_t)r * op->in_w + (uint32_t)c) * channels;
            if (x)
                memcpy(to, x + at, channels);
            else
                for (uint32_t k = 0; k < channels; k++)
                    to[k] = (int8_t)jt_table[k][jt_image[at + k]];
        }
    }
    return patch;
}

static void convolve(const struct jt_op *op, const int8_t *x, int8_t *y)
{
    const uint32_t length = (uint32_t)op->kernel_h * op->kernel_w * op->in_c;
    for (uint32_t row = 0; row < op->out_h; row++)
        for (uint32_t column = 0; column < op->out_w; column++) {
            const int8_t *window = gather(op, x, row, column), *weight = op->weight;
            for (uint32_t channel = 0; channel < op->out_c; channel++, weight += length) {
                int32_t acc = op->bias[channel];
                for (uint32_t i = 0; i < length; i++)
                    acc += window[i] * weight[i];
                *y++ = scaled(op, acc, channel);
            }
        }
}

/* Depth-wise convolution, mean and maximum: each channel by itself. */
static void pool(const struct jt_op *op, const int8_t *x, int8_t *y)
{
    for (uint32_t row = 0; row < op->out_h; row++)
        for (uint32_t column = 0; column < op->out_w; column++)
            for (uint32_t channel = 0; channel < op->out_c; channel++) {
                int32_t acc = op->kind == JT_DEPTHWISE ? op->bias[channel] : op->kind == JT_MAXIMUM ? -128 : 0;
                for (uint32_t i = 0; i < op->kernel_h; i++) {
                    const int32_t r = (int32_t)(row * op->stride_h + i) - op->pad_h;
                    if (r < 0 || r >= op->in_h)
                        continue;
                    for (uint32_t j = 0; j < op->kernel_w; j++) {
                        const int32_t c = (int32_t)(column * op->stride_w + j) - op->pad_w;
                        if (c < 0 || c >= op->in_w)
                            continue;
                        const uint32_t at = ((uint32_t)r * op->in_w + (uint32_t)c) * op->in_c + channel;
                        const int32_t value = x ? x[at] : (int8_t)jt_table[channel][jt_image[at]];
                        if (op->kind == JT_DEPTHWISE)
                            acc += (value - op->in_zero) * op->weight[(i * op->kernel_w + j) * op->out_c + channel];
                        else if (op->kind == JT_MEAN)
                            acc += value - op->in_zero;
                        else if (value > acc)
                            acc = value;
                    }
                }
                *y++ = op->kind == JT_MAXIMUM ? clamp(op, acc) : scaled(op, acc, channel);
            }
}

static void add(const struct jt_op *op, const int8_t *a, const int8_t *b, int8_t *y)
{
    const uint32_t size = (uint32_t)op->out_h * op->out_w * op->out_c;
    for (uint32_t i = 0; i < size; i++) {
        const int32_t left = a[i] - op->in_zero, right = b[i] - op->other_zero;
#if JT_FIXED
        const int32_t sum = multiplied(left * (1 << 20), op->multiplier[0], op->exponent[0])
                            + multiplied(right * (1 << 20), op->multiplier[1], op->exponent[1]);
        y[i] = clamp(op, multiplied(sum, op->multiplier[2], op->exponent[2]) + op->out_zero);
#else
        y[i] = rounded(op, (float)left * op->factor[0] + (float)right * op->factor[1]);
#endif
    }
}

static void affine(const struct jt_op *op, const int8_t *x, int8_t *y)
{
#if !JT_FIXED
    const uint32_t places = (uint32_t)op->out_h * op->out_w;
    for (uint32_t i = 0; i < places; i++)
        for (uint32_t channel = 0; channel < op->out_c; channel++, x++, y++)
            *y = rounded(op, (float)(*x - op->in_zero) * op->factor[channel] + op->addend[channel]);
#else
    (void)op, (void)x, (void)y; /* the generator refuses such a net */
#endif
}

static void copy(const struct jt_op *op, const int8_t *x, int8_t *y)
{
    const uint32_t places = (uint32_t)op->out_h * op->out_w;
    for (uint32_t i = 0; i < places; i++)
        for (uint32_t channel = 0; channel < op->out_c; channel++, y++) {
            const int32_t from = (int32_t)channel - op->shift;
            *y = from < 0 || from >= op->in_c ? op->out_zero : scaled(op, x[i * op->in_c + (uint32_t)from] - op->in_zero, 0);
        }
}

void jt_run(uint32_t first, uint32_t last)
{
    for (const struct jt_op *op = jt_ops + first; op < jt_ops + last; op++) {
        const int8_t *x = op->in == JT_IMAGE ? 0 : jt_arena + op->in;
        int8_t *y = jt_arena + op->out;
        switch (op->kind) {
        case JT_CONV: convolve(op, x, y); break;
        case JT_ADD: add(op, x, jt_arena + op->other, y); break;
        case JT_AFFINE: affine(op, x, y); break;
        case JT_COPY: copy(op, x, y); break;
        default: pool(op, x, y); break;
        }
    }
}
