#include "personality/linux/process/patch.h"
int lx_patch_init(void) { return 0; }
void patch_site_trapped(struct bly_context *context) { }
uint64_t patch_original_address(uint64_t address) { return address; }
uint64_t patch_moved_address(uint64_t address) { return address; }
bool patch_breakpoint(struct bly_context *context) { return false; }
void patch_file_mapped(struct mm *mm, uint64_t start, uint64_t end) { }
