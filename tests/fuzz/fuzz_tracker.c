/* fuzz_tracker.c: any text as latest_checkpointed_iteration.txt, beside the folders of two
 * iterations, one of them empty. */
#include "folder.h"
#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made && (sl_folder_make(fuzz_in("iter_0000010/mp_rank_00"), NULL) || sl_folder_make(fuzz_in("release"), NULL)))
        abort();
    made = true;
    fuzz_put("latest_checkpointed_iteration.txt", (struct fuzz_part){ data, size });
    fuzz_use(fuzz_folder());
    return 0;
}
