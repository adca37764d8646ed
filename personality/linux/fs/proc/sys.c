/* /proc/sys: settings as programs read them. Few can be changed; writing the others is -EPERM by their mode. */
#include "personality/linux/fs/proc/proc.h"

static int show_host_name(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%s\n", lx_kernel->host_name);
    return 0;
}

static int64_t store_host_name(const struct pseudo_node *node, const char *text, size_t size)
{
    size_t length = 0;
    while (length < size && length < sizeof lx_kernel->host_name - 1 && text[length] != '\n')
        length++;
    memset(lx_kernel->host_name, 0, sizeof lx_kernel->host_name);
    memcpy(lx_kernel->host_name, text, length);
    return (int64_t)size;
}

static int show_domain_name(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%s\n", lx_kernel->domain_name[0] ? lx_kernel->domain_name : "(none)");
    return 0;
}

static int show_pid_max(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "%d\n", lx_kernel->table.pid_max);
    return 0;
}

static void add_uuid(struct text *out, const unsigned char bytes[16])
{
    for (int i = 0; i < 16; i++)
        text_add(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", i == 6 ? (bytes[i] & 0x0f) | 0x40 : i == 8 ? (bytes[i] & 0x3f) | 0x80 : bytes[i]);
    text_add(out, "\n");
}

static int show_uuid(const struct pseudo_node *node, struct text *out)
{
    unsigned char bytes[16];
    int problem = bly->random_read(bytes, sizeof bytes);
    if (!problem)
        add_uuid(out, bytes);
    return problem;
}

static int show_boot_id(const struct pseudo_node *node, struct text *out)
{
    add_uuid(out, (const unsigned char *)start_info->random_seed);
    return 0;
}

static int show_file_nr(const struct pseudo_node *node, struct text *out)
{
    text_add(out, "0\t0\t9223372036854775807\n");
    return 0;
}

static const struct pseudo_entry random_entries[] = {
    PSEUDO_FILE("uuid", 0444, show_uuid), PSEUDO_FILE("boot_id", 0444, show_boot_id), PSEUDO_TEXT("entropy_avail", "256\n"), PSEUDO_TEXT("poolsize", "256\n"),
};
static const struct pseudo_entry kernel_entries[] = {
    { .name = "hostname", .mode = S_IFREG | 0644, .show = show_host_name, .store = store_host_name },
    PSEUDO_FILE("domainname", 0444, show_domain_name),
    PSEUDO_FILE("pid_max", 0444, show_pid_max),
    PSEUDO_DIRECTORY("random", random_entries),
    PSEUDO_TEXT("ostype", "Linux\n"), PSEUDO_TEXT("osrelease", LX_KERNEL_RELEASE "\n"), PSEUDO_TEXT("version", LX_KERNEL_VERSION "\n"), PSEUDO_TEXT("arch", "x86_64\n"),
    PSEUDO_TEXT("cap_last_cap", "40\n"), PSEUDO_TEXT("ngroups_max", "65536\n"), PSEUDO_TEXT("threads-max", "127000\n"), PSEUDO_TEXT("core_pattern", "core\n"),
    PSEUDO_TEXT("core_uses_pid", "0\n"), PSEUDO_TEXT("shmmax", "18446744073692774399\n"), PSEUDO_TEXT("shmall", "18446744073692774399\n"), PSEUDO_TEXT("shmmni", "4096\n"),
    PSEUDO_TEXT("sem", "32000\t1024000000\t500\t4096\n"), PSEUDO_TEXT("msgmax", "8192\n"), PSEUDO_TEXT("msgmnb", "16384\n"), PSEUDO_TEXT("msgmni", "4096\n"),
    PSEUDO_TEXT("overflowuid", "65534\n"), PSEUDO_TEXT("overflowgid", "65534\n"), PSEUDO_TEXT("printk", "4\t4\t1\t7\n"), PSEUDO_TEXT("tainted", "0\n"),
    PSEUDO_TEXT("randomize_va_space", "2\n"), PSEUDO_TEXT("sched_rt_period_us", "1000000\n"), PSEUDO_TEXT("sched_rt_runtime_us", "950000\n"),
    PSEUDO_TEXT("sysrq", "0\n"), PSEUDO_TEXT("panic", "0\n"), PSEUDO_TEXT("dmesg_restrict", "1\n"), PSEUDO_TEXT("kptr_restrict", "1\n"), PSEUDO_TEXT("perf_event_paranoid", "3\n"),
    PSEUDO_TEXT("io_uring_disabled", "2\n"), PSEUDO_TEXT("auto_msgmni", "0\n"), PSEUDO_TEXT("sched_autogroup_enabled", "0\n"), PSEUDO_TEXT("numa_balancing", "0\n"),
};
static const struct pseudo_entry vm_entries[] = {
    PSEUDO_TEXT("overcommit_memory", "0\n"), PSEUDO_TEXT("overcommit_ratio", "50\n"), PSEUDO_TEXT("max_map_count", "65530\n"), PSEUDO_TEXT("mmap_min_addr", "65536\n"),
    PSEUDO_TEXT("swappiness", "60\n"), PSEUDO_TEXT("nr_hugepages", "0\n"), PSEUDO_TEXT("dirty_ratio", "20\n"), PSEUDO_TEXT("dirty_background_ratio", "10\n"), PSEUDO_TEXT("zone_reclaim_mode", "0\n"),
    PSEUDO_TEXT("legacy_va_layout", "0\n"),
};
static const struct pseudo_entry inotify_entries[] = { PSEUDO_TEXT("max_user_instances", "128\n"), PSEUDO_TEXT("max_user_watches", "65536\n"), PSEUDO_TEXT("max_queued_events", "16384\n") };
static const struct pseudo_entry mqueue_entries[] = {
    PSEUDO_TEXT("msg_max", "10\n"), PSEUDO_TEXT("msgsize_max", "8192\n"), PSEUDO_TEXT("queues_max", "256\n"), PSEUDO_TEXT("msg_default", "10\n"), PSEUDO_TEXT("msgsize_default", "8192\n"),
};
static const struct pseudo_entry epoll_entries[] = { PSEUDO_TEXT("max_user_watches", "5000000\n") };
static const struct pseudo_entry fs_entries[] = {
    PSEUDO_FILE("file-nr", 0444, show_file_nr), PSEUDO_TEXT("file-max", "9223372036854775807\n"), PSEUDO_TEXT("nr_open", "1048576\n"), PSEUDO_TEXT("pipe-max-size", "1048576\n"),
    PSEUDO_TEXT("pipe-user-pages-soft", "16384\n"), PSEUDO_TEXT("pipe-user-pages-hard", "0\n"), PSEUDO_TEXT("aio-max-nr", "65536\n"), PSEUDO_TEXT("aio-nr", "0\n"), PSEUDO_TEXT("suid_dumpable", "0\n"),
    PSEUDO_TEXT("protected_hardlinks", "0\n"), PSEUDO_TEXT("protected_symlinks", "0\n"), PSEUDO_TEXT("protected_fifos", "0\n"), PSEUDO_TEXT("protected_regular", "0\n"), PSEUDO_TEXT("leases-enable", "0\n"),
    PSEUDO_TEXT("lease-break-time", "45\n"), PSEUDO_TEXT("mount-max", "100000\n"),
    PSEUDO_DIRECTORY("inotify", inotify_entries), PSEUDO_DIRECTORY("mqueue", mqueue_entries), PSEUDO_DIRECTORY("epoll", epoll_entries),
};
static const struct pseudo_entry core_entries[] = {
    PSEUDO_TEXT("somaxconn", "4096\n"), PSEUDO_TEXT("rmem_default", "212992\n"), PSEUDO_TEXT("rmem_max", "212992\n"), PSEUDO_TEXT("wmem_default", "212992\n"), PSEUDO_TEXT("wmem_max", "212992\n"),
    PSEUDO_TEXT("optmem_max", "20480\n"), PSEUDO_TEXT("netdev_max_backlog", "1000\n"),
};
static const struct pseudo_entry ipv4_entries[] = {
    PSEUDO_TEXT("ip_local_port_range", "32768\t60999\n"), PSEUDO_TEXT("ip_forward", "0\n"), PSEUDO_TEXT("ip_nonlocal_bind", "0\n"), PSEUDO_TEXT("ip_unprivileged_port_start", "1024\n"), PSEUDO_TEXT("ip_default_ttl", "64\n"),
    PSEUDO_TEXT("tcp_rmem", "4096\t131072\t6291456\n"), PSEUDO_TEXT("tcp_wmem", "4096\t16384\t4194304\n"), PSEUDO_TEXT("tcp_max_syn_backlog", "1024\n"), PSEUDO_TEXT("tcp_syncookies", "1\n"),
    PSEUDO_TEXT("tcp_fin_timeout", "60\n"), PSEUDO_TEXT("tcp_keepalive_time", "7200\n"), PSEUDO_TEXT("tcp_keepalive_intvl", "75\n"), PSEUDO_TEXT("tcp_keepalive_probes", "9\n"), PSEUDO_TEXT("tcp_fastopen", "0\n"),
    PSEUDO_TEXT("tcp_congestion_control", "cubic\n"), PSEUDO_TEXT("tcp_available_congestion_control", "reno cubic\n"), PSEUDO_TEXT("tcp_timestamps", "1\n"), PSEUDO_TEXT("tcp_tw_reuse", "2\n"),
};
static const struct pseudo_entry ipv6_conf_entries[] = { PSEUDO_TEXT("disable_ipv6", "0\n") };
static const struct pseudo_entry ipv6_interfaces[] = { PSEUDO_DIRECTORY("all", ipv6_conf_entries), PSEUDO_DIRECTORY("default", ipv6_conf_entries), PSEUDO_DIRECTORY("lo", ipv6_conf_entries) };
static const struct pseudo_entry ipv6_entries[] = { PSEUDO_DIRECTORY("conf", ipv6_interfaces), PSEUDO_TEXT("bindv6only", "0\n") };
static const struct pseudo_entry unix_entries[] = { PSEUDO_TEXT("max_dgram_qlen", "512\n") };
static const struct pseudo_entry net_entries[] = {
    PSEUDO_DIRECTORY("core", core_entries), PSEUDO_DIRECTORY("ipv4", ipv4_entries), PSEUDO_DIRECTORY("ipv6", ipv6_entries), PSEUDO_DIRECTORY("unix", unix_entries),
};
static const struct pseudo_entry user_entries[] = { PSEUDO_TEXT("max_user_namespaces", "0\n") };
static const struct pseudo_entry sys_entries[] = {
    PSEUDO_DIRECTORY("kernel", kernel_entries), PSEUDO_DIRECTORY("vm", vm_entries), PSEUDO_DIRECTORY("fs", fs_entries), PSEUDO_DIRECTORY("net", net_entries), PSEUDO_DIRECTORY("user", user_entries),
};
const struct pseudo_entry proc_sys_entry = PSEUDO_DIRECTORY("sys", sys_entries);
