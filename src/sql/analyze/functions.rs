//! What calling a function means for where a statement may run.
//!
//! Everything rests on names: `pg_catalog` cannot be shadowed short of putting it last in
//! `search_path`, and the snapshot lists the functions users made. One that is not immutable
//! may read any table, so no routing of its caller can be proven.

use super::super::schema::Schema;
use super::super::shape::Pin;

/// What a call means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sql) enum Effect {
    /// A function of its arguments, the clock or the catalogs; no aggregate either.
    Scalar,
    /// Folds rows; reads nothing else.
    Aggregate,
    /// Nothing is known but that it reads no table: it may write.
    Opaque,
    /// Uses what lives on the home shard only: sequences, large objects, advisory locks,
    /// notification queues.
    Home(Option<Pin>),
    /// `set_config`.
    SetConfig,
    /// Runs a query it is given as text, or reads a table it is given the name of.
    Reads,
    /// A user's function that may do anything.
    UserDefined,
}

/// What a call of this function means; the name as PostgreSQL would look it up.
pub(in crate::sql) fn effect(schema: &Schema, qualifier: Option<&str>, name: &str) -> Effect {
    if qualifier != Some("pg_catalog") {
        let mut candidates =
            schema.functions_named(name).iter().filter(|f| qualifier.is_none_or(|q| q == f.schema));
        if candidates.any(|function| !function.immutable) {
            return Effect::UserDefined;
        }
    }
    builtin(name)
}

fn builtin(name: &str) -> Effect {
    match name {
        "nextval" | "setval" | "pg_sequence_last_value" => Effect::Home(None),
        "currval" | "lastval" => Effect::Home(Some(Pin::Sequence)),
        "setseed" => Effect::Home(Some(Pin::Seed)),
        "pg_backup_start"
        | "pg_start_backup"
        | "pg_copy_logical_replication_slot"
        | "pg_copy_physical_replication_slot"
        | "pg_create_logical_replication_slot"
        | "pg_create_physical_replication_slot"
        | "pg_replication_origin_session_setup" => Effect::Home(Some(Pin::Replication)),
        "pg_advisory_lock"
        | "pg_advisory_lock_shared"
        | "pg_try_advisory_lock"
        | "pg_try_advisory_lock_shared" => Effect::Home(Some(Pin::AdvisoryLock)),
        "pg_notify" | "pg_listening_channels" | "loread" | "lowrite" => Effect::Home(None),
        "set_config" => Effect::SetConfig,
        "query_to_xml"
        | "query_to_xmlschema"
        | "query_to_xml_and_xmlschema"
        | "cursor_to_xml"
        | "cursor_to_xmlschema"
        | "table_to_xml"
        | "table_to_xmlschema"
        | "table_to_xml_and_xmlschema"
        | "schema_to_xml"
        | "schema_to_xmlschema"
        | "schema_to_xml_and_xmlschema"
        | "database_to_xml"
        | "database_to_xmlschema"
        | "database_to_xml_and_xmlschema"
        | "ts_stat"
        | "ts_rewrite"
        | "crosstab"
        | "crosstab2"
        | "crosstab3"
        | "crosstab4"
        | "connectby"
        | "xpath_table" => Effect::Reads,
        "dblink_connect" | "dblink_connect_u" => Effect::Home(Some(Pin::Unread)),
        _ if name.starts_with("lo_") || name.starts_with("dblink") => Effect::Home(None),
        _ if locks(name) => Effect::Home(None),
        _ if AGGREGATES.binary_search(&name).is_ok() => Effect::Aggregate,
        _ if SCALARS.binary_search(&name).is_ok() => Effect::Scalar,
        _ => Effect::Opaque,
    }
}

/// Does it lock what each server has for itself?
pub(in crate::sql) fn locks(name: &str) -> bool {
    name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_")
}

/// Does it tell the size of a table that it is given the name of?
pub(in crate::sql) fn measures(name: &str) -> bool {
    matches!(name, "pg_relation_size" | "pg_table_size" | "pg_total_relation_size" | "pg_indexes_size")
}

/// How much a function's result depends on where and when it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::sql) enum Steadiness {
    /// On its arguments and the session's settings only: it is the same on every shard.
    Alike,
    /// On the transaction, the server or its catalogs as well: it is the same within a statement.
    Local,
    /// Each call has another one, or nothing is known of it.
    Varying,
}

/// How steady a function is; the name as PostgreSQL would look it up.
pub(in crate::sql) fn steadiness(schema: &Schema, qualifier: Option<&str>, name: &str) -> Steadiness {
    if effect(schema, qualifier, name) == Effect::UserDefined {
        return Steadiness::Varying;
    }
    let known = || AGGREGATES.binary_search(&name).is_ok() || SCALARS.binary_search(&name).is_ok();
    match name {
        "clock_timestamp" | "gen_random_uuid" | "random" | "pg_sleep" => Steadiness::Varying,
        "age"
        | "current_catalog"
        | "current_database"
        | "current_date"
        | "current_role"
        | "current_schema"
        | "current_schemas"
        | "current_setting"
        | "current_time"
        | "current_timestamp"
        | "current_user"
        | "localtime"
        | "localtimestamp"
        | "now"
        | "session_user"
        | "statement_timestamp"
        | "transaction_timestamp"
        | "user"
        | "version"
        | "col_description"
        | "format_type"
        | "has_schema_privilege"
        | "has_table_privilege"
        | "obj_description"
        | "shobj_description"
        | "to_regclass"
        | "to_tsquery"
        | "to_tsvector"
        | "ts_headline" => Steadiness::Local,
        _ if name.starts_with("pg_") && known() => Steadiness::Local,
        _ if known() || schema.functions_named(name).iter().any(|function| function.immutable) => {
            Steadiness::Alike
        }
        _ => Steadiness::Varying,
    }
}

/// Whether the order in which rows are folded does not matter to an aggregate's result, whatever
/// their type. (A sum of `float8` has other last digits in another order.)
pub(in crate::sql) fn folds_in_any_order(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "min"
            | "max"
            | "bool_and"
            | "bool_or"
            | "every"
            | "bit_and"
            | "bit_or"
            | "bit_xor"
            | "grouping"
            | "percentile_disc"
            | "range_agg"
    )
}

/// Whether a function of PostgreSQL's own yields any number of rows.
pub(in crate::sql) fn yields_rows(name: &str) -> bool {
    matches!(
        name,
        "generate_series"
            | "generate_subscripts"
            | "unnest"
            | "regexp_matches"
            | "regexp_split_to_table"
            | "string_to_table"
            | "json_array_elements"
            | "json_array_elements_text"
            | "json_each"
            | "json_each_text"
            | "json_object_keys"
            | "json_populate_recordset"
            | "json_to_recordset"
            | "jsonb_array_elements"
            | "jsonb_array_elements_text"
            | "jsonb_each"
            | "jsonb_each_text"
            | "jsonb_object_keys"
            | "jsonb_path_query"
            | "jsonb_populate_recordset"
            | "jsonb_to_recordset"
    )
}

/// Whether a function folds rows, or looks at others than its own.
pub(in crate::sql) fn folds(schema: &Schema, name: &str) -> bool {
    AGGREGATES.binary_search(&name).is_ok() || name.contains("_agg") || schema.is_aggregate(name)
}

/// Whether a call may fold rows.
pub(super) fn may_fold(schema: &Schema, qualifier: Option<&str>, name: &str) -> bool {
    match effect(schema, qualifier, name) {
        Effect::Scalar => false,
        _ => folds(schema, name) || !schema.knows_aggregates(),
    }
}

/// Why a session must keep its connection after a call of this, as far as the name tells.
/// For texts nobody parses.
pub(in crate::sql) fn pin_by_name(name: &str) -> Option<Pin> {
    match builtin(name) {
        Effect::Home(pin) => pin,
        Effect::SetConfig => Some(Pin::Setting),
        // What the text does is not seen.
        Effect::Reads => Some(Pin::Call),
        _ => None,
    }
}

/// The reason that a server cannot be asked about is the one to keep.
pub(super) fn stronger(one: Option<Pin>, other: Option<Pin>) -> Option<Pin> {
    let rank = |pin: &Pin| match pin {
        Pin::TemporaryTable | Pin::Listen | Pin::HoldCursor | Pin::AdvisoryLock => 0,
        Pin::Suspect => 1,
        Pin::Call => 2,
        Pin::Setting | Pin::Code => 3,
        Pin::Sequence => 4,
        Pin::Load | Pin::Seed | Pin::Replication | Pin::Unread => 5,
    };
    one.into_iter().chain(other).max_by_key(rank)
}

/// Whether a function folds rows.
pub(in crate::sql) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.binary_search(&name).is_ok()
}

/// Sorted.
const AGGREGATES: &[&str] = &[
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "every",
    "first_value",
    "grouping",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "lag",
    "last_value",
    "lead",
    "max",
    "min",
    "mode",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "rank",
    "regr_count",
    "row_number",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
    "xmlagg",
];

/// Functions of PostgreSQL's own that write nothing and fold nothing. Sorted. One that is
/// missing costs a read its replica, no more.
const SCALARS: &[&str] = &[
    "abs",
    "age",
    "array_append",
    "array_cat",
    "array_dims",
    "array_fill",
    "array_length",
    "array_lower",
    "array_ndims",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_replace",
    "array_to_json",
    "array_to_string",
    "array_upper",
    "ascii",
    "btrim",
    "cardinality",
    "cbrt",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "clock_timestamp",
    "coalesce",
    "col_description",
    "concat",
    "concat_ws",
    "cos",
    "current_catalog",
    "current_database",
    "current_date",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_time",
    "current_timestamp",
    "current_user",
    "date",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "degrees",
    "div",
    "encode",
    "exp",
    "extract",
    "floor",
    "format",
    "format_type",
    "gen_random_uuid",
    "generate_series",
    "generate_subscripts",
    "greatest",
    "has_schema_privilege",
    "has_table_privilege",
    "initcap",
    "isfinite",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_length",
    "json_build_array",
    "json_build_object",
    "json_each",
    "json_each_text",
    "json_extract_path",
    "json_extract_path_text",
    "json_object",
    "json_object_keys",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "json_typeof",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_object_keys",
    "jsonb_path_exists",
    "jsonb_path_query",
    "jsonb_path_query_array",
    "jsonb_path_query_first",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_pretty",
    "jsonb_set",
    "jsonb_strip_nulls",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "jsonb_typeof",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "least",
    "left",
    "length",
    "ln",
    "localtime",
    "localtimestamp",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "mod",
    "now",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "obj_description",
    "octet_length",
    "overlay",
    "parse_ident",
    "pg_backend_pid",
    "pg_client_encoding",
    "pg_encoding_to_char",
    "pg_function_is_visible",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef_columns",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_is_in_recovery",
    "pg_my_temp_schema",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_relation_is_publishable",
    "pg_relation_size",
    "pg_size_pretty",
    "pg_sleep",
    "pg_table_is_visible",
    "pg_table_size",
    "pg_total_relation_size",
    "pg_type_is_visible",
    "pg_typeof",
    "pi",
    "position",
    "power",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "radians",
    "random",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row",
    "row_to_json",
    "rpad",
    "rtrim",
    "session_user",
    "sha256",
    "shobj_description",
    "sign",
    "sin",
    "split_part",
    "sqrt",
    "starts_with",
    "statement_timestamp",
    "string_to_array",
    "string_to_table",
    "strpos",
    "substr",
    "substring",
    "tan",
    "timezone",
    "to_ascii",
    "to_char",
    "to_date",
    "to_hex",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_regclass",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "translate",
    "trim",
    "trim_array",
    "trunc",
    "ts_headline",
    "ts_rank",
    "unnest",
    "upper",
    "user",
    "version",
    "width_bucket",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(AGGREGATES.is_sorted());
        assert!(SCALARS.is_sorted());
    }
}
