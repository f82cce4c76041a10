/* jouletune firmware: what its parts share. C11, no heap, no vendor code. Arithmetic: hardware/firmware/net.py. */
#ifndef JT_H
#define JT_H

#include <stdint.h>

#include "net_data.h"

enum jt_kind { JT_CONV, JT_DEPTHWISE, JT_ADD, JT_MEAN, JT_MAXIMUM, JT_AFFINE, JT_COPY };

/* One step of the net. Tensors are [rows][columns][channels]; an input of JT_IMAGE is the image in the input buffer. */
struct jt_op {
    uint8_t kind, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    uint16_t in_h, in_w, in_c, out_h, out_w, out_c, shift;
    uint32_t in, other, out; /* bytes from the start of the arena */
    int8_t in_zero, other_zero, out_zero, low, high;
    const int8_t *weight;
    const int32_t *bias;     /* of a convolution: the input's zero point is accounted for */
    const float *factor;     /* onnxruntime: of each channel, or the first alone; of an addition two */
    const float *addend;
    const int32_t *multiplier; /* tflite: in place of the factors; of an addition three */
    const int8_t *exponent;
    uint8_t per_channel;
};

#define JT_IMAGE UINT32_MAX

extern const struct jt_op jt_ops[JT_OPS];
extern const uint8_t jt_table[JT_CHANNELS][256]; /* bytes of an image -> quantised values, as bits */
extern uint8_t jt_image[JT_INPUT];
extern int8_t jt_arena[JT_ARENA];

/* Run the steps from first up to, not including, last. */
void jt_run(uint32_t first, uint32_t last);

/* The head: softmax regression on features. */
struct jt_head {
    uint32_t features;
    float *weight; /* [classes][features], then [classes] biases */
};

void jt_head_clear(const struct jt_head *head);
/* Probabilities of features; returns the likeliest class. */
uint32_t jt_head_predict(const struct jt_head *head, const int8_t *x, int32_t zero, float scale, float *p);
/* One step of stochastic gradient descent. */
void jt_head_step(const struct jt_head *head, const int8_t *x, int32_t zero, float scale, uint32_t label, float rate,
                  float decay);
/* Draw an order of examples (Fisher and Yates, xorshift32). */
void jt_order(uint16_t *places, uint32_t count, uint32_t *state);
/* The q-quantile of values, which are sorted by this. */
float jt_quantile(float *values, uint32_t count, float q);

/* The board port: one file of ports/. */
enum jt_state { JT_IDLE, JT_INFER, JT_TRAIN };

void jt_port_init(void);
int jt_port_read(void); /* wait for a byte, asleep */
void jt_port_write(char byte);
void jt_port_flush(void);               /* wait until all bytes are on the line */
void jt_port_timer_restart(void);       /* the timer counts from 0 from now on */
uint64_t jt_port_ticks(void);           /* since then; called at least once per inference and example */
void jt_port_state(enum jt_state state); /* shown on pins, for a meter */
void jt_port_edge(void);                /* falling edge of a pin, held for a microsecond or more */

extern const uint32_t jt_port_tick_ns;
extern const uint32_t jt_port_instruction_ps; /* of an emulated board; 0 where that is not known */
extern const char jt_port_name[];

#endif
