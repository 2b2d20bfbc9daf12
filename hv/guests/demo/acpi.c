/* The few facts this guest needs from the ACPI tables (ACPI 6.5, "ACPI Software Programming
 * Model"): the processors, the I/O APIC, how to power off. */
#include "demo.h"

struct rsdp {
    char signature[8]; /* "RSD PTR " */
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision; /* 2 and later: the fields from length on exist */
    uint32_t rsdt_address;
    uint32_t length;
    uint64_t xsdt_address;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __attribute__((packed));

struct table {
    char signature[4];
    uint32_t length; /* header included */
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    uint32_t creator_id;
    uint32_t creator_revision;
} __attribute__((packed));

#define RSDP_SEARCH_START 0xE0000
#define RSDP_SEARCH_END 0x100000

#define MADT_ENTRIES 44 /* offset of the first entry */
#define MADT_LOCAL_APIC 0
#define MADT_IO_APIC 1
#define MADT_SOURCE_OVERRIDE 2
#define LOCAL_APIC_ENABLED 1

#define FADT_DSDT 40
#define FADT_PM1A_CONTROL 64

struct machine machine = {
    .pit_gsi = 2,
    .ioapic_address = 0xFEC00000,
    .pm1a_control = 0x404,
    .sleep_type_s5 = 5,
};

static uint32_t field32(const void *table, uint32_t offset)
{
    uint32_t value;
    memcpy(&value, (const uint8_t *)table + offset, sizeof value);
    return value;
}

static uint64_t field64(const void *table, uint32_t offset)
{
    return field32(table, offset) | (uint64_t)field32(table, offset + 4) << 32;
}

static const struct rsdp *find_rsdp(uint64_t address)
{
    if (address)
        return (const struct rsdp *)address;
    for (address = RSDP_SEARCH_START; address < RSDP_SEARCH_END; address += 16)
        if (bytes_equal((const void *)address, "RSD PTR ", 8))
            return (const struct rsdp *)address;
    return NULL;
}

static const struct table *find_table(const struct rsdp *rsdp, const char *signature)
{
    int extended = rsdp->revision >= 2 && rsdp->xsdt_address;
    uint64_t root_address = extended ? rsdp->xsdt_address : rsdp->rsdt_address;
    const struct table *root = (const struct table *)root_address;
    uint32_t step = extended ? 8 : 4;

    for (uint32_t offset = sizeof *root; offset + step <= root->length; offset += step) {
        uint64_t address = extended ? field64(root, offset) : field32(root, offset);
        if (bytes_equal((const void *)address, signature, 4))
            return (const struct table *)address;
    }
    return NULL;
}

static void read_madt_entry(const uint8_t *entry)
{
    switch (entry[0]) {
    case MADT_LOCAL_APIC:
        if (field32(entry, 4) & LOCAL_APIC_ENABLED && machine.cpu_count < MAX_CPUS)
            machine.apic_ids[machine.cpu_count++] = entry[3];
        break;
    case MADT_IO_APIC:
        machine.ioapic_address = field32(entry, 4);
        break;
    case MADT_SOURCE_OVERRIDE:
        if (entry[3] == 0) /* ISA interrupt 0, the PIT */
            machine.pit_gsi = field32(entry, 4);
        break;
    }
}

static void read_madt(const struct table *madt)
{
    uint32_t offset = MADT_ENTRIES;
    while (offset + 2 <= madt->length) {
        const uint8_t *entry = (const uint8_t *)madt + offset;
        if (entry[1] < 2)
            return;
        read_madt_entry(entry);
        offset += entry[1];
    }
}

/*
 * \_S5 is a package of bytes in the DSDT, and the first one is the value for SLP_TYPa. In AML:
 *
 *     '_' 'S' '5' '_'  0x12  length  count  ( 0x0A value | 0x00 | 0x01 ) ...
 */
static void read_sleep_type(const struct table *dsdt)
{
    const uint8_t *aml = (const uint8_t *)dsdt;
    for (uint32_t at = sizeof *dsdt; at + 9 <= dsdt->length; at++) {
        if (!bytes_equal(aml + at, "_S5_\x12", 5))
            continue;
        const uint8_t *value = aml + at + 7;
        machine.sleep_type_s5 = value[0] == 0x0A ? value[1] : value[0];
        return;
    }
}

void acpi_read(uint64_t rsdp_address)
{
    const struct rsdp *rsdp = find_rsdp(rsdp_address);
    if (!rsdp)
        return;
    const struct table *madt = find_table(rsdp, "APIC");
    if (madt)
        read_madt(madt);
    const struct table *fadt = find_table(rsdp, "FACP");
    if (fadt) {
        machine.pm1a_control = (uint16_t)field32(fadt, FADT_PM1A_CONTROL);
        read_sleep_type((const struct table *)(uint64_t)field32(fadt, FADT_DSDT));
    }
}
