/* See screen.h. The sequences are xterm's: ECMA-48 with the private modes of DEC and others. Strings for the terminal (titles and the like) are
 * not told from text: nothing that is looked for can be in one. */
#include <base/screen.h>

#include <string.h>

enum { TEXT, ESCAPE, SEQUENCE };
enum { ESC = 0x1b };

/* A mode each, in the order in which they are switched on. */
static const struct {
    uint16_t number; /* of CSI ? number h; 0: not such a one */
    const char *on, *off;
} modes[] = {
    {47, "\e[?47h", "\e[?47l"},
    {1047, "\e[?1047h", "\e[?1047l"},
    {1049, "\e[?1049h", "\e[?1049l"},
    {1, "\e[?1h", "\e[?1l"}, /* cursor keys */
    {9, "\e[?9h", "\e[?9l"}, /* the mouse */
    {1000, "\e[?1000h", "\e[?1000l"},
    {1001, "\e[?1001h", "\e[?1001l"},
    {1002, "\e[?1002h", "\e[?1002l"},
    {1003, "\e[?1003h", "\e[?1003l"},
    {1004, "\e[?1004h", "\e[?1004l"}, /* focus */
    {1005, "\e[?1005h", "\e[?1005l"},
    {1006, "\e[?1006h", "\e[?1006l"},
    {1015, "\e[?1015h", "\e[?1015l"},
    {2004, "\e[?2004h", "\e[?2004l"}, /* bracketed paste */
    {0, "\e=", "\e>"},           /* keypad */
    {0, "\e[?25l", "\e[?25h"},   /* hidden cursor */
    {0, "\e[>4;1m", "\e[>4;0m"}, /* keys with modifiers */
    {0, "\e[>4;2m", "\e[>4;0m"},
    {0, "\e[>1u", "\e[<u"}, /* the keyboard's other protocol */
    {0, "", "\e[r"},        /* a part of the screen scrolls: whoever draws anew says which */
    {0, "", "\e[0 q"},      /* the cursor's form: likewise */
};
enum { ALTERNATE = 7, KEYPAD = 1 << 14, HIDDEN_CURSOR = 1 << 15, KEYS_1 = 1 << 16, KEYS_2 = 1 << 17, KEYBOARD = 1 << 18, SCROLLS_PART = 1 << 19, CURSOR_FORM = 1 << 20 };
_Static_assert(sizeof(modes) / sizeof(modes[0]) == 21, "the order of the bits");

static void set(struct screen *screen, uint32_t mode, bool on)
{
    screen->modes = on ? screen->modes | mode : screen->modes & ~mode;
}

static void set_private(struct screen *screen, uint16_t number, bool on)
{
    if (number == 25)
        set(screen, HIDDEN_CURSOR, !on);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (modes[i].number && modes[i].number == number)
            set(screen, 1u << i, on);
}

static void end_sequence(struct screen *screen, char final)
{
    const uint16_t *parameters = screen->parameters, first = parameters[0];
    char prefix = screen->prefix, intermediate = screen->intermediate;
    if (prefix == '?' && (final == 'h' || final == 'l'))
        for (unsigned i = 0; i <= screen->parameter_count && i < SCREEN_PARAMETER_MAX; i++)
            set_private(screen, parameters[i], final == 'h');
    else if (prefix == '>' && final == 'm' && first == 4)
        screen->modes = (screen->modes & ~(uint32_t)(KEYS_1 | KEYS_2)) | (parameters[1] == 1 ? KEYS_1 : parameters[1] == 2 ? KEYS_2 : 0);
    else if ((prefix == '>' || prefix == '<') && final == 'u')
        set(screen, KEYBOARD, prefix == '>' && first);
    else if (!prefix && !intermediate && final == 'r')
        set(screen, SCROLLS_PART, first || screen->parameter_count);
    else if (!prefix && intermediate == ' ' && final == 'q')
        set(screen, CURSOR_FORM, first);
    else if (!prefix && intermediate == '!' && final == 'p') /* soft reset */
        set(screen, HIDDEN_CURSOR | KEYPAD | SCROLLS_PART | 1u << 3, false);
}

static void take_of_sequence(struct screen *screen, unsigned char byte)
{
    uint16_t beyond = 0, *parameter = screen->parameter_count < SCREEN_PARAMETER_MAX ? &screen->parameters[screen->parameter_count] : &beyond;
    if (byte >= '0' && byte <= '9')
        *parameter = *parameter < 6000 ? (uint16_t)(*parameter * 10 + byte - '0') : UINT16_MAX;
    else if (byte == ';' || byte == ':')
        screen->parameter_count += screen->parameter_count < SCREEN_PARAMETER_MAX;
    else if (byte >= '<' && byte <= '?')
        screen->prefix = (char)byte;
    else if (byte >= ' ' && byte <= '/')
        screen->intermediate = (char)byte;
    else if (byte >= '@' && byte <= '~') {
        end_sequence(screen, (char)byte);
        screen->state = TEXT;
    } else if (byte == ESC)
        screen->state = ESCAPE;
    else if (byte == 0x18 || byte == 0x1a) /* CAN, SUB */
        screen->state = TEXT;
}

static void take_after_escape(struct screen *screen, unsigned char byte)
{
    screen->state = byte == '[' ? SEQUENCE : byte == ESC ? ESCAPE : TEXT;
    if (byte == '[')
        *screen = (struct screen){.modes = screen->modes, .in_line = screen->in_line, .state = SEQUENCE};
    else if (byte == '=' || byte == '>')
        set(screen, KEYPAD, byte == '=');
    else if (byte == 'c') /* reset */
        screen->modes = 0;
}

void screen_follow(struct screen *screen, const void *data, size_t size)
{
    const unsigned char *place = data, *end = place + size;
    if (size)
        screen->in_line = end[-1] != '\n';
    while (place < end) {
        if (screen->state == TEXT) {
            place = memchr(place, ESC, (size_t)(end - place));
            if (!place)
                return;
            place++;
            screen->state = ESCAPE;
        } else if (screen->state == ESCAPE) {
            take_after_escape(screen, *place++);
        } else {
            take_of_sequence(screen, *place++);
        }
    }
}

bool screen_is_full(const struct screen *screen)
{
    return screen->modes & ALTERNATE;
}

static size_t add(char *out_text, size_t size, const char *text)
{
    memcpy(out_text + size, text, strlen(text));
    return size + strlen(text);
}

size_t screen_enter(uint32_t on, char out_text[SCREEN_TEXT_MAX])
{
    size_t size = 0;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (on & 1u << i)
            size = add(out_text, size, modes[i].on);
    return on & ALTERNATE ? add(out_text, size, "\e[H\e[2J") : size;
}

/* Backwards: what belongs to the alternate screen before that is left. Colours are reset with it; elsewhere they are in the text. */
size_t screen_leave(uint32_t on, char out_text[SCREEN_TEXT_MAX])
{
    size_t size = 0;
    bool moves_cursor = (on & SCROLLS_PART) && !(on & ALTERNATE);
    if (on & ALTERNATE)
        size = add(out_text, size, "\e[0m");
    if (moves_cursor)
        size = add(out_text, size, "\e7");
    for (size_t i = sizeof(modes) / sizeof(modes[0]); i-- > 0;)
        if (on & 1u << i)
            size = add(out_text, size, modes[i].off);
    return moves_cursor ? add(out_text, size, "\e8") : size;
}
