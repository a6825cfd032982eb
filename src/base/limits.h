/* limits.h: every ceiling for what a file may ask of us, in one place. */
#ifndef SL_BASE_LIMITS_H
#define SL_BASE_LIMITS_H

#define SL_LIMIT_PICKLE_BYTES   (UINT64_C(2) << 30)   /* data.pkl, .metadata           */
#define SL_LIMIT_PICKLE_NODES   UINT64_C(100000000)   /* and never more than its bytes */
#define SL_LIMIT_PICKLE_STACK   UINT64_C(1000000)     /* values, marks                 */
#define SL_LIMIT_PICKLE_DEPTH   1000                  /* nesting when walked or shown  */
#define SL_LIMIT_PICKLE_INT     16384                 /* bytes of one integer          */
#define SL_LIMIT_PICKLE_LINE    4096                  /* text line of protocol 0       */
#define SL_LIMIT_DIMS           64                    /* axes of a tensor              */
#define SL_LIMIT_ZIP_ENTRIES    UINT64_C(10000000)
#define SL_LIMIT_ZIP_NAME       4096
#define SL_LIMIT_ZIP_DIRECTORY  (UINT64_C(256) << 20) /* bytes of the central directory */
#define SL_LIMIT_ZIP_INFLATED   (UINT64_C(128) << 20) /* of a deflated data.pkl: torch stores it */
#define SL_LIMIT_ST_HEADER      UINT64_C(100000000)   /* as the reference reader       */
#define SL_LIMIT_ST_TENSORS     ((size_t)500000)      /* in one file: five times what the largest models have in all of theirs */
#define SL_LIMIT_JSON_BYTES     (UINT64_C(64) << 20)  /* config.json and its like      */
#define SL_LIMIT_JSON_DEPTH     256                   /* lists and objects in each other */
#define SL_LIMIT_JSON_VALUES    UINT64_C(4000000)     /* values of one document        */
#define SL_LIMIT_INDEX_BYTES    (UINT64_C(256) << 20) /* *.index.json                  */
#define SL_LIMIT_TRACKER_BYTES  UINT64_C(4096)
#define SL_LIMIT_FOLDER_ENTRIES ((size_t)1000000)
#define SL_LIMIT_FILES          ((size_t)100000)      /* of one checkpoint; chunks of zarr arrays: as entries of a folder */
#define SL_LIMIT_OPEN_FILES     256                   /* source files kept open        */

#endif
