/* The head: softmax regression, trained one example at a time. In Python: hardware/firmware/head.py. */
#include <math.h>
#include <string.h>

#include "jt.h"

void jt_head_clear(const struct jt_head *head)
{
    memset(head->weight, 0, sizeof(float) * JT_CLASSES * (head->features + 1));
}

uint32_t jt_head_predict(const struct jt_head *head, const int8_t *x, int32_t zero, float scale, float *p)
{
    const float *bias = head->weight + JT_CLASSES * head->features, *weight = head->weight;
    uint32_t best = 0;
    for (uint32_t c = 0; c < JT_CLASSES; c++) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < head->features; i++)
            sum += *weight++ * ((float)(x[i] - zero) * scale);
        p[c] = sum + bias[c];
        best = p[c] > p[best] ? c : best;
    }
    const float highest = p[best];
    float total = 0.0f;
    for (uint32_t c = 0; c < JT_CLASSES; c++)
        total += p[c] = expf(p[c] - highest);
    for (uint32_t c = 0; c < JT_CLASSES; c++)
        p[c] /= total;
    return best;
}

void jt_head_step(const struct jt_head *head, const int8_t *x, int32_t zero, float scale, uint32_t label, float rate,
                  float decay)
{
    float p[JT_CLASSES], *bias = head->weight + JT_CLASSES * head->features, *weight = head->weight;
    jt_head_predict(head, x, zero, scale, p);
    p[label] -= 1.0f;
    for (uint32_t c = 0; c < JT_CLASSES; c++) {
        for (uint32_t i = 0; i < head->features; i++, weight++)
            *weight -= rate * (p[c] * ((float)(x[i] - zero) * scale) + decay * *weight);
        bias[c] -= rate * p[c];
    }
}

void jt_order(uint16_t *places, uint32_t count, uint32_t *state)
{
    for (uint32_t i = 0; i < count; i++)
        places[i] = (uint16_t)i;
    for (uint32_t last = count; last-- > 1;) {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        const uint32_t other = *state % (last + 1);
        const uint16_t kept = places[last];
        places[last] = places[other];
        places[other] = kept;
    }
}

float jt_quantile(float *values, uint32_t count, float q)
{
    for (uint32_t i = 1; i < count; i++) { /* few values: by insertion */
        const float value = values[i];
        uint32_t at = i;
        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
    const float place = q * (float)(count - 1);
    const uint32_t below = (uint32_t)place;
    const uint32_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (place - (float)below);
}
