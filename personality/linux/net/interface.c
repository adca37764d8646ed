/* ioctls about network interfaces: the sandbox has one, `lo`. */
#include "personality/linux/net/socket.h"

enum { ENOIOCTLCMD_ = 515, LO_INDEX = 1, LO_MTU = 65536, LO_FLAGS = 0x49 /* UP | LOOPBACK | RUNNING */ };
struct request { /* struct ifreq */
    char name[16];
    union { unsigned char address[16]; int32_t number; int16_t flags; } data;
    unsigned char rest[8];
};

static long interface_list(uint64_t argument)
{
    struct { int32_t size, padding; void *buffer; } list; /* struct ifconf */
    int problem = guest_read(&list, (void *)argument, sizeof list);
    if (problem)
        return problem;
    struct request lo;
    memset(&lo, 0, sizeof lo);
    memcpy(lo.name, "lo", 3);
    lo.data.address[0] = LX_AF_INET;
    lo.data.address[4] = 127;
    lo.data.address[7] = 1;
    if (list.buffer && list.size >= (int32_t)sizeof lo && (problem = guest_write(list.buffer, &lo, sizeof lo)))
        return problem;
    list.size = !list.buffer || list.size >= (int32_t)sizeof lo ? (int32_t)sizeof lo : 0;
    return guest_write((void *)argument, &list, sizeof list);
}

long interface_ioctl(unsigned number, uint64_t argument)
{
    enum { SIOCGIFNAME = 0x8910, SIOCGIFCONF = 0x8912, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFADDR, SIOCSIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR = 0x8919, SIOCGIFNETMASK = 0x891b,
           SIOCGIFMETRIC = 0x891d, SIOCGIFMTU = 0x8921, SIOCGIFHWADDR = 0x8927, SIOCGIFINDEX = 0x8933, SIOCGIFTXQLEN = 0x8942, SIOCETHTOOL = 0x8946 };
    if (number < 0x8900 || number > 0x89ff)
        return -ENOIOCTLCMD_;
    if (number == SIOCGIFCONF)
        return interface_list(argument);
    struct request request;
    int problem = guest_read(&request, (void *)argument, sizeof request);
    if (problem)
        return problem;
    if (number == SIOCGIFNAME) {
        if (request.data.number != LO_INDEX)
            return -ENODEV;
        memset(request.name, 0, sizeof request.name);
        memcpy(request.name, "lo", 3);
        return guest_write((void *)argument, &request, sizeof request);
    }
    request.name[15] = 0;
    if (strcmp(request.name, "lo") != 0)
        return -ENODEV;
    memset(&request.data, 0, sizeof request.data);
    switch (number) {
    case SIOCGIFFLAGS: request.data.flags = LO_FLAGS; break;
    case SIOCGIFADDR: case SIOCGIFDSTADDR: case SIOCGIFBRDADDR: case SIOCGIFNETMASK:
        request.data.address[0] = LX_AF_INET;
        if (number != SIOCGIFBRDADDR)
            request.data.address[4] = number == SIOCGIFNETMASK ? 255 : 127;
        if (number == SIOCGIFADDR || number == SIOCGIFDSTADDR)
            request.data.address[7] = 1;
        break;
    case SIOCGIFMETRIC: break;
    case SIOCGIFMTU: request.data.number = LO_MTU; break;
    case SIOCGIFHWADDR: request.data.flags = 772; break; /* ARPHRD_LOOPBACK */
    case SIOCGIFINDEX: request.data.number = LO_INDEX; break;
    case SIOCGIFTXQLEN: request.data.number = 1000; break;
    case SIOCETHTOOL: return -EOPNOTSUPP;
    default: return -EPERM;
    }
    return guest_write((void *)argument, &request, sizeof request);
}
