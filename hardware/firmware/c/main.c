/* The protocol of MLPerf Tiny's boards, and commands of the same form for training. See docs/microcontroller.md. */
#include <string.h>

#include "jt.h"

uint8_t jt_image[JT_INPUT];
_Alignas(8) int8_t jt_arena[JT_ARENA];

#define FEATURES (JT_FEATURES + JT_PART_FEATURES)

static char command[JT_COMMAND + 1];
static uint32_t expected, held;

#if JT_SLOTS > 0
static int8_t store[JT_SLOTS][FEATURES];
static uint16_t labels[JT_SLOTS], places[JT_SLOTS];
static float confidences[JT_SLOTS];
static float full_weight[JT_CLASSES * (JT_FEATURES + 1)], part_weight[JT_CLASSES * (JT_PART_FEATURES + 1)];
static const struct jt_head full_head = {JT_FEATURES, full_weight}, part_head = {JT_PART_FEATURES, part_weight};
static uint32_t stored, seed = 1;
static float rate = 0.1f, decay = 0.0f, threshold = 2.0f;
static float exits = -1.0f, turn; /* share of inferences that are made to leave early; below 0: confidence decides */
#endif

enum mode { LOGITS, HEAD, PART, STAGE, BOTH };
static enum mode mode = JT_SLOTS > 0 ? HEAD : LOGITS;
static float outputs[JT_RESULTS];
static uint32_t n_outputs, exits_part, exits_full;

static void say(const char *text)
{
    while (*text)
        jt_port_write(*text++);
}

static void say_number(uint64_t value)
{
    char digits[21], *at = digits + 20;
    *at = 0;
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    say(at);
}

static void end(void) { say("\r\n"); }

static void say_with(const char *text, uint64_t value)
{
    say(text);
    say_number(value);
    end();
}

static void say_hex(uint32_t value, uint32_t digits)
{
    while (digits--)
        jt_port_write("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static void say_bytes(const void *bytes, uint32_t count)
{
    const uint8_t *at = bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (i % 8 == 0)
            say("m-buffer");
        say("-");
        say_hex(at[i], 2);
        if (i % 8 == 7 || i + 1 == count)
            end();
    }
}

/* Three decimals, as the reference prints outputs. */
static void say_float(float value)
{
    if (value < 0) {
        say("-");
        value = -value;
    }
    const uint32_t thousandths = value < 1e6f ? (uint32_t)(value * 1000.0f + 0.5f) : 1000000000u;
    say_number(thousandths / 1000);
    say(".");
    say_number(thousandths / 100 % 10);
    say_number(thousandths / 10 % 10);
    say_number(thousandths % 10);
}

static void say_results(void)
{
    say("m-results-[");
    for (uint32_t i = 0; i < n_outputs; i++) {
        if (i)
            say(",");
        say_float(outputs[i]);
    }
    say("]\r\n");
}

static void say_error(const char *what, const char *of)
{
    say("e-[");
    say(what);
    say(of);
    say("]\r\n");
}

/* Decimal digits alone, below a thousand million. */
static int number(const char *text, uint32_t *value)
{
    *value = 0;
    if (!text || !*text || strlen(text) > 9)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        *value = *value * 10 + (uint32_t)(*text - '0');
    }
    return 1;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

#if JT_SLOTS > 0
/* The bits of a number in single precision, as eight digits. */
static int float_bits(const char *text, float *value)
{
    uint32_t bits = 0;
    if (!text || strlen(text) != 8)
        return 0;
    for (; *text; text++) {
        if (digit(*text) < 0)
            return 0;
        bits = bits << 4 | (uint32_t)digit(*text);
    }
    if ((bits & 0x7f800000u) == 0x7f800000u) /* neither infinite nor no number */
        return 0;
    memcpy(value, &bits, sizeof bits);
    return 1;
}
#endif

static uint64_t microseconds(uint64_t ticks) { return ticks * jt_port_tick_ns / 1000; }

static uint32_t lap(uint64_t us)
{
    jt_port_edge();
#if !JT_ENERGY
    say_with("m-lap-us-", (uint32_t)us);
#endif
    jt_port_flush();
    return (uint32_t)us;
}

static const int8_t *full_features(void) { return jt_arena + JT_OUTPUT_AT; }

static void infer_once(void)
{
#if JT_SLOTS > 0
    if (mode != LOGITS) {
        n_outputs = JT_CLASSES;
        if (mode == PART || mode == STAGE) {
            jt_run(0, JT_PART_OPS);
            const uint32_t best =
                jt_head_predict(&part_head, jt_arena + JT_PART_AT, JT_PART_ZERO, JT_PART_SCALE, outputs);
            int leaves = mode == PART || outputs[best] >= threshold;
            if (mode == STAGE && exits >= 0.0f) {
                turn += exits; /* spread evenly */
                leaves = turn >= 1.0f;
                turn -= leaves ? 1.0f : 0.0f;
            }
            if (leaves) {
                exits_part++;
                return;
            }
            jt_run(JT_PART_OPS, JT_OPS);
        } else
            jt_run(0, JT_OPS);
        exits_full++;
        jt_head_predict(&full_head, full_features(), JT_OUTPUT_ZERO, JT_OUTPUT_SCALE, outputs);
        return;
    }
#endif
    jt_run(0, JT_OPS);
    n_outputs = JT_FEATURES;
    for (uint32_t i = 0; i < JT_FEATURES; i++)
        outputs[i] = (float)(full_features()[i] - JT_OUTPUT_ZERO) * JT_OUTPUT_SCALE;
}

#if JT_SLOTS > 0
static void train_epoch(uint32_t *state)
{
    jt_order(places, stored, state);
    for (uint32_t i = 0; i < stored; i++) {
        const int8_t *x = store[places[i]];
        const uint32_t label = labels[places[i]];
        if (mode != PART)
            jt_head_step(&full_head, x, JT_OUTPUT_ZERO, JT_OUTPUT_SCALE, label, rate, decay);
        if (mode != HEAD && JT_PART_FEATURES)
            jt_head_step(&part_head, x + JT_FEATURES, JT_PART_ZERO, JT_PART_SCALE, label, rate, decay);
        jt_port_ticks();
    }
}

static void clear_heads(void)
{
    jt_head_clear(&full_head);
    jt_head_clear(&part_head);
}
#endif

/* `infer N W` and `train N W`: W times unseen, then N times between two laps. */
static void repeat(int trains, const char *first, const char *second)
{
    uint32_t count = 0, warm_up = 10;
    const char *const word = trains ? "train" : "infer";
    if (first && !number(first, &count))
        count = 0;
    if (second && !number(second, &warm_up))
        warm_up = 10;
    if (count == 0) {
        say_error(trains ? "Training" : "Inference", " iterations must be >0");
        return;
    }
#if JT_SLOTS > 0
    if (trains && stored == 0) {
        say_error("No features are stored", "");
        return;
    }
    uint32_t state = seed;
#endif
    say_with("m-warmup-start-", warm_up);
    jt_port_timer_restart();
    for (uint32_t i = 0; i < warm_up; i++) {
#if JT_SLOTS > 0
        if (trains)
            train_epoch(&state);
        else
#endif
            infer_once();
        jt_port_ticks();
    }
#if JT_SLOTS > 0
    state = seed;
    if (trains)
        clear_heads();
#endif
    exits_part = exits_full = 0;
#if JT_SLOTS > 0
    turn = 0.5f;
#endif
    say("m-warmup-done\r\nm-");
    say(word);
    say_with("-start-", count);
    const uint32_t first_us = lap(microseconds(jt_port_ticks()));
    jt_port_state(trains ? JT_TRAIN : JT_INFER);
    jt_port_timer_restart();
    for (uint32_t i = 0; i < count; i++) {
#if JT_SLOTS > 0
        if (trains)
            train_epoch(&state);
        else
#endif
            infer_once();
        jt_port_ticks();
    }
    const uint64_t ticks = jt_port_ticks();
    jt_port_state(JT_IDLE);
    lap(first_us + microseconds(ticks));
    say("m-");
    say(word);
    say("-done\r\n");
    say_with("m-ticks-", ticks);
    if (trains)
        return;
    if (mode == STAGE) {
        say_with("m-exits-part-", exits_part);
        say_with("m-exits-full-", exits_full);
    }
    say_results();
}

static void db(const char *first, const char *second)
{
    uint32_t count;
    if (first && strcmp(first, "load") == 0) {
        if (!number(second, &count) || count == 0 || count > JT_INPUT) {
            say_error("Buffer size must be 1 to ", "the input's");
            return;
        }
        expected = count;
        held = 0;
        say("m-[Expecting ");
        say_number(count);
        say(" bytes]\r\n");
    } else if (first && strcmp(first, "print") == 0)
        say_bytes(jt_image, JT_INPUT);
    else if (!first)
        say_error("Unknown command: ", "db");
    else if (strlen(first) % 2)
        say_error("Insufficent number of hex digits", "");
    else {
        for (const char *at = first; *at; at += 2)
            if (digit(at[0]) < 0 || digit(at[1]) < 0) {
                const char pair[3] = {at[0], at[1], 0};
                say("e-[Invalid hex digit '");
                say(pair);
                say("']\r\n");
                return;
            }
        for (; *first && held < expected; first += 2)
            jt_image[held++] = (uint8_t)(digit(first[0]) << 4 | digit(first[1]));
        if (expected && held == expected) {
            expected = 0;
            say("m-load-done\r\n");
        }
    }
}

#if JT_SLOTS > 0
static void feature(const char *first, const char *second)
{
    uint32_t at;
    if (first && strcmp(first, "clear") == 0)
        stored = 0;
    else if (first && strcmp(first, "add") == 0) {
        if (stored == JT_SLOTS || !number(second, &at) || at >= JT_CLASSES) {
            say_error(stored == JT_SLOTS ? "No place for more features" : "No such class", "");
            return;
        }
        jt_run(0, JT_PART_OPS);
        if (JT_PART_FEATURES)
            memcpy(store[stored] + JT_FEATURES, jt_arena + JT_PART_AT, JT_PART_FEATURES);
        jt_run(JT_PART_OPS, JT_OPS);
        memcpy(store[stored], full_features(), JT_FEATURES);
        labels[stored++] = (uint16_t)at;
    } else if (first && strcmp(first, "print") == 0 && number(second, &at) && at < stored) {
        say_bytes(store[at], FEATURES);
        return;
    } else {
        say_error("Unknown command: ", "feature");
        return;
    }
    say_with("m-features-", stored);
}

static void set(const char *first, const char *second)
{
    uint32_t value;
    const int is_seed = first && strcmp(first, "seed") == 0;
    float *const which = first && strcmp(first, "rate") == 0      ? &rate
                         : first && strcmp(first, "decay") == 0   ? &decay
                         : first && strcmp(first, "threshold") == 0 ? &threshold
                         : first && strcmp(first, "exits") == 0   ? &exits
                                                                    : 0;
    if (is_seed && number(second, &value) && value > 0)
        seed = value;
    else if (!which || !float_bits(second, which)) {
        say_error("Unknown setting: ", first ? first : "");
        return;
    }
    say("m-set\r\n");
}

/* The threshold for a share of early exits, from the part's confidences on the stored features. */
static void set_threshold(const char *first)
{
    float share, p[JT_CLASSES];
    if (!JT_PART_FEATURES || !float_bits(first, &share) || stored == 0) {
        say_error("No threshold", "");
        return;
    }
    for (uint32_t i = 0; i < stored; i++) {
        const uint32_t best = jt_head_predict(&part_head, store[i] + JT_FEATURES, JT_PART_ZERO, JT_PART_SCALE, p);
        confidences[i] = p[best];
    }
    threshold = share <= 0.0f ? 2.0f : share >= 1.0f ? 0.0f : jt_quantile(confidences, stored, 1.0f - share);
    uint32_t bits;
    memcpy(&bits, &threshold, sizeof bits);
    say("m-threshold-");
    say_hex(bits, 8);
    end();
}

static void head(const char *first, const char *second)
{
    const int part = second && strcmp(second, "part") == 0;
    if (first && strcmp(first, "print") == 0)
        say_bytes(part ? part_weight : full_weight,
                  (uint32_t)sizeof(float) * JT_CLASSES * ((part ? JT_PART_FEATURES : JT_FEATURES) + 1u));
    else if (first && strcmp(first, "clear") == 0)
        clear_heads();
    else
        say_error("Unknown command: ", "head");
}
#endif

static void set_mode(const char *name)
{
    static const char *const names[] = {"logits", "head", "part", "stage", "both"};
    for (uint32_t i = 0; name && i < 5; i++)
        if (strcmp(name, names[i]) == 0 && (i == 0 || JT_SLOTS > 0) && (i < 2 || JT_PART_FEATURES > 0)) {
            mode = (enum mode)i;
            say("m-mode-");
            say(name);
            end();
            return;
        }
    say_error("Unknown mode: ", name ? name : "");
}

static void about(void)
{
    say("m-about-board-");
    say(jt_port_name);
    end();
    say("m-about-net-" JT_NET_SHA256 "\r\nm-about-weights-" JT_WEIGHTS_SHA256 "\r\n");
    say_with("m-about-height-", JT_HEIGHT);
    say_with("m-about-width-", JT_WIDTH);
    say_with("m-about-channels-", JT_CHANNELS);
    say_with("m-about-classes-", JT_CLASSES);
    say_with("m-about-features-", JT_FEATURES);
    say_with("m-about-part_features-", JT_PART_FEATURES);
    say_with("m-about-slots-", JT_SLOTS);
    say_with("m-about-piece-", (JT_COMMAND - 4) / 2);
    say_with("m-about-macs-", JT_MACS);
    say_with("m-about-part_macs-", JT_PART_MACS);
    say_with("m-about-flash-", JT_FLASH);
    say_with("m-about-sram-", JT_SRAM);
    say_with("m-about-tick_ns-", jt_port_tick_ns);
    say_with("m-about-instruction_ps-", jt_port_instruction_ps);
}

static void execute(void)
{
    char *words[3] = {0, 0, 0};
    uint32_t count = 0;
    for (char *at = command; *at && count < 3;) {
        while (*at == ' ')
            *at++ = 0;
        if (!*at)
            break;
        words[count++] = at;
        while (*at && *at != ' ')
            at++;
    }
    for (uint32_t i = 0; i < count; i++) /* words end where the next begins */
        words[i][strcspn(words[i], " ")] = 0;
    const char *const name = words[0] ? words[0] : "";
    if (strcmp(name, "name") == 0)
        say("m-name-dut-[jouletune]\r\n");
    else if (strcmp(name, "profile") == 0)
        say("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[" JT_MODEL "]\r\n");
    else if (strcmp(name, "timestamp") == 0)
        lap(microseconds(jt_port_ticks()));
    else if (strcmp(name, "db") == 0)
        db(words[1], words[2]);
    else if (strcmp(name, "infer") == 0)
        repeat(0, words[1], words[2]);
    else if (strcmp(name, "results") == 0)
        say_results();
    else if (strcmp(name, "mode") == 0)
        set_mode(words[1]);
    else if (strcmp(name, "output") == 0)
        say_bytes(words[1] && strcmp(words[1], "part") == 0 ? jt_arena + JT_PART_AT : full_features(),
                  words[1] && strcmp(words[1], "part") == 0 ? JT_PART_FEATURES : JT_FEATURES);
    else if (strcmp(name, "about") == 0)
        about();
#if JT_SLOTS > 0
    else if (strcmp(name, "train") == 0)
        repeat(1, words[1], words[2]);
    else if (strcmp(name, "feature") == 0)
        feature(words[1], words[2]);
    else if (strcmp(name, "set") == 0)
        set(words[1], words[2]);
    else if (strcmp(name, "threshold") == 0)
        set_threshold(words[1]);
    else if (strcmp(name, "head") == 0)
        head(words[1], words[2]);
#endif
    else
        say_error("Unknown command: ", name);
    say("m-ready\r\n");
}

int main(void)
{
    jt_port_init();
    jt_port_timer_restart();
    jt_port_state(JT_IDLE);
    say(JT_ENERGY ? "m-timestamp-mode-energy\r\n" : "m-timestamp-mode-performance\r\n");
    lap(0);
    say("m-init-done\r\nm-ready\r\n");
    for (uint32_t length = 0;;) {
        const int byte = jt_port_read();
        if (byte < 0)
            return 0;
        if (byte == '%') {
            command[length] = 0;
            length = 0;
            execute();
        } else if (byte != 0 && length < JT_COMMAND)
            command[length++] = (char)byte;
    }
}
