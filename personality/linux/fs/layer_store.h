/* Layers that are kept on disk: `--layer DIR`. */
#ifndef LX_LAYER_STORE_H
#define LX_LAYER_STORE_H

#include "personality/linux/fs/internal.h"

struct layer;
int layer_store_init(const struct bly_start_info *info);
bool layer_store_is_used(void);
/* A fresh layer that will be mounted at `place` gets what an earlier sandbox left; it is then kept. */
int layer_store_load(struct superblock *superblock, const char *place);
/* When no process is left. Panics when something could not be kept: the next sandbox will have what was there before. */
void layer_store_save(void);
/* Where the contents with this number lie. Returns the size. */
int layer_store_uri(const struct layer *layer, uint64_t stored, char *out_uri, size_t size);

#endif
