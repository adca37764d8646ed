/* The root a program finds: the default view of the host, or --rootfs. The view holds what programs
 * need to run and nothing that is anyone's: system folders read-only under the private layer, empty
 * folders of the sandbox's own, and a few files made for it. What the default view may show is
 * decided twice: the world-readable rule (in the monitor) and the list below. docs/policy.md
 * describes it to users: keep the two together. */
#include <monitor/policy/policy.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define VIEW (BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY | MON_MOUNT_DEFAULT_VIEW)

/* clang-format off */
/* Shown when the host has them; a symbolic link (merged /usr) becomes the same link inside. */
static const char *const view_folders[] = {
    "/usr", "/etc", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/nix/store", "/gnu/store",
    /* Of /var only what programs read to work: the package list, what package scripts compiled. */
    "/var/lib/dpkg", "/var/lib/texmf", "/var/lib/sgml-base", "/var/lib/xml-core",
    "/var/lib/gems", "/var/lib/ghc", "/var/lib/rpm", "/var/cache/fontconfig",
};

static const struct {
    const char *path;
    uint32_t mode;
} own_folders[] = {
    {"/dev", 0755},  {"/home", 0755}, {"/mnt", 0755},       {"/proc", 0555}, {"/root", 0700},
    {"/run", 0755},  {"/srv", 0755},  {"/sys", 0555},       {"/tmp", 01777}, {"/run/lock", 01777},
    {"/var", 0755},  {"/var/tmp", 01777}, {"/var/lib", 0755}, {"/var/cache", 0755},
    {"/var/log", 0755},
};

/* Never shown by the default view, also where a host's permissions are careless. Patterns as of
 * fnmatch(3), `*` within one component; each covers all below it. */
static const char *const denied[] = {
    "/etc/shadow*", "/etc/gshadow*", "/etc/security/opasswd",
    "/etc/sudoers", "/etc/sudoers.d", "/etc/sudo*.conf", "/etc/doas.conf",
    "/etc/ssh/ssh_host_*", "/etc/ssl/private", "/etc/pki/*/private", "/etc/letsencrypt",
    "/etc/machine-id", "/etc/hostid", "/etc/crypttab", "/etc/cryptsetup-keys.d", "/etc/keys",
    "/etc/krb5.keytab", "/etc/NetworkManager/system-connections", "/etc/netplan",
    "/etc/wpa_supplicant", "/etc/wireguard", "/etc/openvpn", "/etc/ipsec.d", "/etc/ipsec.secrets",
    "/etc/swanctl", "/etc/ppp", "/etc/chatscripts", "/etc/apt/auth.conf*", "/etc/docker",
    "/etc/containers/auth.json", "/etc/kubernetes", "/etc/rancher", "/etc/cni",
    "/etc/mysql/debian.cnf",
    "/etc/exim4/passwd.client", "/etc/postfix/sasl*", "/etc/samba/*cred*", "/etc/cups/*.conf.O",
    "/etc/libvirt", "/etc/bind/rndc.key", "/etc/snmp", "/etc/redis", "/etc/vault*",
    "/etc/credstore*",
    "/usr/lib/credstore*", "/usr/local/etc/*secret*",
};
/* Anywhere below /etc and /opt, by the last name. */
static const char *const denied_names[] = {"*.key", "*.keytab", "*.p12", "*.pfx", "*.kdbx", "*.jks",
                                           "id_rsa*", "id_ed25519*", "id_ecdsa*", ".netrc",
                                           ".pgpass", ".git-credentials", ".env"};

/* clang-format on */

static bool denies_exactly(const char *path)
{
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
        if (fnmatch(denied[i], path, FNM_PATHNAME) == 0)
            return true;
    const char *name = strrchr(path, '/') + 1;
    for (size_t i = 0; i < sizeof(denied_names) / sizeof(denied_names[0]); i++)
        if (fnmatch(denied_names[i], name, 0) == 0)
            return true;
    return false;
}

bool mon_policy_denies(const char *host_path)
{
    /* Names below /usr are by far the most asked for, and two patterns speak of them. */
    if (text_starts_with(host_path, "/usr/") && !text_starts_with(host_path, "/usr/lib/cred") &&
        !text_starts_with(host_path, "/usr/local/etc/"))
        return false;
    if (!text_starts_with(host_path, "/etc/") && !text_starts_with(host_path, "/opt/") &&
        !text_starts_with(host_path, "/usr/"))
        return false;
    char path[PATH_MAX];
    size_t size = strlen(host_path);
    if (size >= sizeof(path))
        return true;
    memcpy(path, host_path, size + 1);
    /* The path, then each folder above it. */
    for (char *slash = path + size; slash > path + 4; slash = strrchr(path, '/')) {
        *slash = '\0';
        if (denies_exactly(path))
            return true;
    }
    return false;
}

static void add_own_folder(struct mon_policy *policy, const char *path, uint32_t mode)
{
    mon_policy_add_node(policy, BLY_NODE_DIRECTORY, path, mode, NULL);
}

/* ---- Files made for the sandbox ---- */

static bool is_number(const char *text, size_t size)
{
    return size > 0 && size < 11 && strspn(text, "0123456789") >= size;
}

/* Copies the well-formed lines of a host's passwd or group file without their password field. The
 * entries of id 0 and of `nobody`/`nogroup` are given by the caller, so that they are there
 * whatever the host says. */
static void add_accounts(struct text *out, const char *host_file, const char *first_lines,
                         unsigned field_count, uint32_t own_id, bool *out_has_own)
{
    text_add(out, first_lines);
    cleanup_free char *content = NULL;
    if (path_read_file(AT_FDCWD, host_file, 1 << 20, &content, NULL) < 0)
        return;
    char *rest = content;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *fields[8];
        unsigned count = 0;
        char *fields_rest = line;
        for (char *field; count < 8 && (field = strsep(&fields_rest, ":"));)
            fields[count++] = field;
        if (count != field_count || fields_rest || !fields[0][0] ||
            !is_number(fields[2], strlen(fields[2])))
            continue;
        unsigned long id = strtoul(fields[2], NULL, 10);
        if (id == 0 || id == 65534)
            continue;
        if (id == own_id)
            *out_has_own = true;
        text_add(out, fields[0]);
        text_add(out, ":x");
        for (unsigned i = 2; i < count; i++) {
            text_add_character(out, ':');
            text_add(out, fields[i]);
        }
        text_add_character(out, '\n');
    }
}

static void add_account_files(struct mon_policy *policy)
{
    cleanup_text struct text users = {0}, groups = {0};
    bool has_user = policy->user == 0 || policy->user == 65534;
    bool has_group = policy->group == 0 || policy->group == 65534;
    add_accounts(&users, "/etc/passwd",
                 "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/"
                 "sbin/nologin\n",
                 7, policy->user, &has_user);
    add_accounts(&groups, "/etc/group", "root:x:0:\nnogroup:x:65534:\n", 4, policy->group,
                 &has_group);
    if (!has_user)
        text_format(&users, "user:x:%u:%u:user:/tmp:/bin/sh\n", policy->user, policy->group);
    if (!has_group)
        text_format(&groups, "user:x:%u:\n", policy->group);
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/passwd", 0644, users.data);
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/group", 0644, groups.data);
}

static void add_network_files(struct mon_policy *policy)
{
    cleanup_free char *host_name = text_print("%s\n", policy->host_name);
    cleanup_free char *hosts = text_print("127.0.0.1\tlocalhost %s\n"
                                          "::1\tlocalhost ip6-localhost ip6-loopback\n",
                                          policy->host_name);
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/hostname", 0644, host_name);
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/hosts", 0644, hosts);
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/resolv.conf", 0644, "");
}

/* The host's machine id identifies its owner; each sandbox has one of its own. */
static void add_machine_id(struct mon_policy *policy)
{
    unsigned char bytes[16] = {0};
    char text[34];
    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        memset(bytes, 0xba, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    strcpy(text + 32, "\n");
    mon_policy_add_node(policy, BLY_NODE_TEXT, "/etc/machine-id", 0444, text);
}

/* ---- The two roots ---- */

static bool has_mount(const struct mon_policy *policy, const char *guest_path)
{
    return mon_policy_find_mount(policy, guest_path) != NULL;
}

static void add_view(struct mon_policy *policy)
{
    for (size_t i = 0; i < sizeof(view_folders) / sizeof(view_folders[0]); i++) {
        const char *path = view_folders[i];
        struct stat status;
        if (has_mount(policy, path) || lstat(path, &status) < 0)
            continue;
        char target[PATH_MAX];
        ssize_t size = S_ISLNK(status.st_mode) ? readlink(path, target, sizeof(target) - 1) : -1;
        if (size > 0) {
            target[size] = '\0';
            mon_policy_add_node(policy, BLY_NODE_SYMLINK, path, 0777, target);
        } else if (S_ISDIR(status.st_mode) && !policy->no_view) {
            mon_policy_add_mount(policy, path, path, VIEW);
        }
    }
}

bool mon_policy_is_view(const struct mon_mount *mount)
{
    char resolved[PATH_MAX];
    bool found = false;
    for (size_t i = 0; i < sizeof(view_folders) / sizeof(view_folders[0]) && !found; i++)
        found = text_equal(view_folders[i], mount->guest_path);
    /* Where it lies on this host: below a link, say. */
    return found && (mount->flags & ~(uint32_t)BLY_MOUNT_FILE) == VIEW && realpath(mount->guest_path, resolved) &&
           text_equal(resolved, mount->host_path);
}

int mon_policy_add_root(struct mon_policy *policy, struct error *error)
{
    if (policy->rootfs) {
        if (has_mount(policy, "/"))
            return error_set(error, -EINVAL, "/ is given twice (--rootfs and -v)");
        struct stat status;
        if (stat(policy->rootfs, &status) < 0)
            return error_set_errno(error, -errno, "cannot use %s as root", policy->rootfs);
        if (!S_ISDIR(status.st_mode))
            return error_set(error, -ENOTDIR, "cannot use %s as root: it is not a folder",
                             policy->rootfs);
        if (access(policy->rootfs, R_OK | X_OK) < 0)
            return error_set_errno(error, -errno, "cannot use %s as root", policy->rootfs);
        mon_policy_add_mount(policy, policy->rootfs, "/", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY);
        static const char *const own[] = {"/dev", "/proc", "/sys"};
        for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
            add_own_folder(policy, own[i], 0755);
        add_own_folder(policy, "/tmp", 01777);
        add_own_folder(policy, "/run", 0755);
        add_network_files(policy);
        return 0;
    }
    add_view(policy);
    for (size_t i = 0; i < sizeof(own_folders) / sizeof(own_folders[0]); i++)
        if (!has_mount(policy, own_folders[i].path))
            add_own_folder(policy, own_folders[i].path, own_folders[i].mode);
    const struct mon_mount *etc = mon_policy_find_mount(policy, "/etc");
    if (etc && !(etc->flags & MON_MOUNT_DEFAULT_VIEW))
        return 0; /* the user gave an /etc: it is theirs as it is */
    if (!etc)
        add_own_folder(policy, "/etc", 0755);
    add_account_files(policy);
    add_network_files(policy);
    add_machine_id(policy);
    return 0;
}
