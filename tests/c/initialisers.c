/* Every struct with a struct_size is initialised by its macro, in C and in C++, without a warning. */

#include "duralog.h"

uint32_t sum_of_sizes(void);

#if defined(DURALOG_NDJSON)
uint32_t sum_of_optional_sizes(void);

uint32_t sum_of_optional_sizes(void)
{
    eventstore_import_options_t import_options = EVENTSTORE_IMPORT_OPTIONS_INIT;
    eventstore_import_report_t import_report = EVENTSTORE_IMPORT_REPORT_INIT;
    eventstore_export_options_t export_options = EVENTSTORE_EXPORT_OPTIONS_INIT;
    eventstore_export_report_t export_report = EVENTSTORE_EXPORT_REPORT_INIT;
    return import_options.struct_size + import_report.struct_size + export_options.struct_size
        + export_report.struct_size;
}
#endif

uint32_t sum_of_sizes(void)
{
    duralog_error_t error = DURALOG_ERROR_INIT;
    wal_options_t options = WAL_OPTIONS_INIT;
    wal_page_t page = WAL_PAGE_INIT;
    wal_stat_t stat = WAL_STAT_INIT;
    wal_recovery_report_t report = WAL_RECOVERY_REPORT_INIT;
    eventstore_options_t store_options = EVENTSTORE_OPTIONS_INIT;
    eventstore_stat_t store_stat = EVENTSTORE_STAT_INIT;
    eventstore_new_event_t new_event = EVENTSTORE_NEW_EVENT_INIT;
    eventstore_columns_t columns = EVENTSTORE_COLUMNS_INIT;
    eventstore_receipt_t receipt = EVENTSTORE_RECEIPT_INIT;
    eventstore_stream_versions_t versions = EVENTSTORE_STREAM_VERSIONS_INIT;
    eventstore_conflict_t conflict = EVENTSTORE_CONFLICT_INIT;
    eventstore_read_t read = EVENTSTORE_READ_INIT;
    eventstore_event_t event = EVENTSTORE_EVENT_INIT;
    eventstore_page_t events = EVENTSTORE_PAGE_INIT;
    eventstore_stream_info_t info = EVENTSTORE_STREAM_INFO_INIT;
    eventstore_names_page_t names = EVENTSTORE_NAMES_PAGE_INIT;
    eventstore_snapshot_info_t snapshot = EVENTSTORE_SNAPSHOT_INFO_INIT;
    eventstore_index_report_t index = EVENTSTORE_INDEX_REPORT_INIT;
    duralog_status_t status = error.status;
    if (status != DURALOG_OK)
        return 0;
    return error.struct_size + options.struct_size + page.struct_size + stat.struct_size
        + report.struct_size + store_options.struct_size + store_stat.struct_size
        + new_event.struct_size + columns.struct_size + receipt.struct_size + versions.struct_size
        + conflict.struct_size + read.struct_size + event.struct_size + events.struct_size
        + info.struct_size + names.struct_size + snapshot.struct_size + index.struct_size;
}
