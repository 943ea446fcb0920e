/* Every struct with a struct_size is initialised by its macro, in C and in C++, without a warning. */

#include "duralog.h"

uint32_t sum_of_sizes(void);

uint32_t sum_of_sizes(void)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_page_t page = WAL_PAGE_INIT;
    wal_stat_t stat = WAL_STAT_INIT;
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    duralog_status_t status = error.status;
    if (status != DURALOG_OK)
        return 0;
    return error.struct_size + options.struct_size + page.struct_size + stat.struct_size
        + report.struct_size;
}
