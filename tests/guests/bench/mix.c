/*
 * The kinds of work that embedded benchmarks mix: a linked list searched, reversed and sorted;
 * small integer matrices; a state machine over text; all results in a CRC. Each iteration does
 * the same work, so the instructions per iteration are constant.
 */
#include "bench.h"

#define NODES 64
#define ORDER 10
#define CRC_POLYNOMIAL 0xA001 /* CRC-16, reflected x^16 + x^15 + x^2 + 1 */

struct node {
    struct node *next;
    int16_t key;
    uint16_t tag;
};

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, POWER, INVALID, STATES };

static struct node nodes[NODES];
static int16_t left[ORDER][ORDER], right[ORDER][ORDER];
static int32_t product[ORDER][ORDER];
static const char text[] = "12,+7,-305,4.25,.5,6.02e23,1e-9,abc,9x,0,+-1,3.1415926,-2.5E+4,77777,8.,e5,"
                           "1234567890,-.75e2,5e,hello,0.0001,42,19a,+6.626e-34,";

static __attribute__((noinline)) uint16_t crc_byte(uint16_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc & 1 ? (uint16_t)(crc >> 1 ^ CRC_POLYNOMIAL) : (uint16_t)(crc >> 1);
    return crc;
}

static uint16_t crc_word(uint16_t crc, uint32_t value)
{
    crc = crc_byte(crc, (uint8_t)value);
    crc = crc_byte(crc, (uint8_t)(value >> 8));
    crc = crc_byte(crc, (uint8_t)(value >> 16));
    return crc_byte(crc, (uint8_t)(value >> 24));
}

static struct node *make_list(void)
{
    uint32_t seed = 0x1234567;
    for (int i = 0; i < NODES; i++) {
        seed = seed * 1664525 + 1013904223;
        nodes[i].key = (int16_t)(seed >> 16);
        nodes[i].tag = (uint16_t)i;
        nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
    }
    return nodes;
}

static __attribute__((noinline)) struct node *find_tag(struct node *list, uint16_t tag)
{
    while (list && list->tag != tag)
        list = list->next;
    return list;
}

static __attribute__((noinline)) struct node *reverse(struct node *list)
{
    struct node *reversed = 0;
    while (list) {
        struct node *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

static __attribute__((noinline)) struct node *merge(struct node *a, struct node *b)
{
    struct node *head = 0, **tail = &head;
    while (a && b) {
        struct node **smaller = a->key <= b->key ? &a : &b;
        *tail = *smaller;
        tail = &(*smaller)->next;
        *smaller = *tail;
    }
    *tail = a ? a : b;
    return head;
}

static struct node *sort(struct node *list)
{
    if (!list || !list->next)
        return list;
    struct node *middle = list;
    for (struct node *end = list->next; end && end->next; end = end->next->next)
        middle = middle->next;
    struct node *second = middle->next;
    middle->next = 0;
    return merge(sort(list), sort(second));
}

static __attribute__((noinline)) uint16_t list_work(uint16_t crc)
{
    struct node *list = make_list();
    for (uint16_t tag = 0; tag < NODES; tag += 7) {
        struct node *found = find_tag(list, tag);
        found->key = (int16_t)(found->key ^ crc_byte((uint16_t)found->key, (uint8_t)tag));
        list = reverse(list);
    }
    for (list = sort(list); list; list = list->next)
        crc = crc_word(crc, (uint32_t)(uint16_t)list->key << 16 | list->tag);
    return crc;
}

static __attribute__((noinline)) uint16_t matrix_work(uint16_t crc)
{
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            left[i][j] = (int16_t)(i * 3 + j * 7 - 40);
            right[i][j] = (int16_t)(i * j - 25 + j);
        }
    int32_t trace = 0;
    for (int i = 0; i < ORDER; i++) {
        for (int j = 0; j < ORDER; j++) {
            int32_t sum = 0;
            for (int k = 0; k < ORDER; k++)
                sum += left[i][k] * right[k][j];
            product[i][j] = sum >> 2;
        }
        trace += product[i][i];
    }
    for (int i = 0; i < ORDER; i++) {
        int32_t row = 0;
        for (int j = 0; j < ORDER; j++)
            row += (product[i][j] >> (j & 7) & 0xFF) * left[j][i];
        crc = crc_word(crc, (uint32_t)row);
    }
    return crc_word(crc, (uint32_t)trace);
}

static enum state next_state(enum state state, char c)
{
    int digit = c >= '0' && c <= '9';
    switch (state) {
    case START:
        return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : INVALID;
    case SIGN:
        return digit ? INTEGER : c == '.' ? POINT : INVALID;
    case INTEGER:
        return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' || c == 'E' ? EXPONENT : INVALID;
    case POINT:
        return digit ? FRACTION : INVALID;
    case FRACTION:
        return digit ? FRACTION : c == 'e' || c == 'E' ? EXPONENT : INVALID;
    case EXPONENT:
        return digit ? POWER : c == '+' || c == '-' ? EXPONENT_SIGN : INVALID;
    case EXPONENT_SIGN:
    case POWER:
        return digit ? POWER : INVALID;
    default:
        return INVALID;
    }
}

static __attribute__((noinline)) uint16_t text_work(uint16_t crc)
{
    uint32_t ended_in[STATES] = {0}, steps[STATES] = {0};
    enum state state = START;
    for (const char *at = text; *at; at++) {
        if (*at == ',') {
            ended_in[state]++;
            state = START;
        } else {
            state = next_state(state, *at);
            steps[state]++;
        }
    }
    for (int i = 0; i < STATES; i++)
        crc = crc_word(crc, ended_in[i] << 16 | steps[i]);
    return crc;
}

/* The CRC of all iterations. */
uint64_t kernel_mix(uint64_t iterations)
{
    uint16_t crc = 0;
    do {
        crc = list_work(crc);
        crc = matrix_work(crc);
        crc = text_work(crc);
    } while (--iterations);
    return crc;
}
