/* Small pieces of work, in a ring that every processor takes from. */
#include "demo.h"

#define NODE_COUNT 32

struct node {
    uint64_t value;
    struct node *next;
};

struct task *run_queue; /* the task to run next; under run_queue_lock */
struct spinlock shared_lock;
uint64_t shared_counter;

static struct spinlock run_queue_lock;
static struct node nodes[NODE_COUNT];
static struct node *list_head;

uint64_t fib(uint64_t n)
{
    if (n < 2)
        return n;
    return fib(n - 1) + fib(n - 2);
}

static void list_push(struct node *node, uint64_t value)
{
    node->value = value;
    node->next = list_head;
    list_head = node;
}

static uint64_t list_sum(const struct node *node)
{
    uint64_t sum = 0;
    for (; node; node = node->next)
        sum += node->value;
    return sum;
}

static uint64_t step_fib(struct task *task)
{
    return fib(task->runs % 12);
}

static uint64_t step_list(struct task *task)
{
    (void)task;
    return list_sum(list_head);
}

static uint64_t step_touch(struct task *task)
{
    uint64_t *page = demand_next_page();
    *page += task->runs;
    return *page;
}

static uint64_t step_count(struct task *task)
{
    (void)task;
    lock(&shared_lock);
    uint64_t count = ++shared_counter;
    unlock(&shared_lock);
    return count;
}

static struct task tasks[] = {
    {.name = "fib", .step = step_fib},
    {.name = "list", .step = step_list},
    {.name = "touch", .step = step_touch},
    {.name = "count", .step = step_count},
};

#define TASK_COUNT (sizeof tasks / sizeof tasks[0])

void tasks_setup(void)
{
    for (uint64_t i = 0; i < NODE_COUNT; i++)
        list_push(&nodes[i], i + 1);
    for (size_t i = 0; i < TASK_COUNT; i++)
        tasks[i].next = &tasks[(i + 1) % TASK_COUNT];
    run_queue = &tasks[0];
}

struct task *pick_task(void)
{
    lock(&run_queue_lock);
    struct task *task = run_queue;
    run_queue = task->next;
    unlock(&run_queue_lock);
    return task;
}

void run_task(struct task *task)
{
    uint64_t result = task->step(task);
    task->result = result;
    __atomic_fetch_add(&task->runs, 1, __ATOMIC_RELAXED);
}
