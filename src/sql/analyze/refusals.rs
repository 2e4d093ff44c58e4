//! Why a statement is not run on several shards, and what to change. All wordings stand here.

/// A reason, for the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::sql) struct Refusal {
    pub(in crate::sql) message: String,
    pub(in crate::sql) hint: String,
}

/// What was found while a statement was read. The first one counts, except that one which
/// says what to change goes before one which only says that pgring cannot tell.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    refusal: Option<Refusal>,
    unreadable: bool,
}

impl Refusals {
    pub(super) fn push(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    /// The tree holds what PostgreSQL's grammar does not have, or what was not accounted for.
    pub(super) fn unreadable(&mut self) {
        self.unreadable = true;
    }

    /// Nothing may be concluded from the tree.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    pub(super) fn first(&mut self) -> Option<Refusal> {
        self.refusal.take().or_else(|| self.unreadable.then(Refusal::unreadable))
    }
}

const HINT: &str =
    "Say where it belongs with a comment: /* pgring: key=… */, or /* pgring: shard=… */ with a name or all.";

impl Refusal {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), hint: hint.into() }
    }

    pub(in crate::sql) fn unreadable() -> Refusal {
        Refusal::new("statement cannot be read by pgring's parser, and names a sharded table", HINT)
    }

    pub(in crate::sql) fn no_tokens(fault: &str) -> Refusal {
        Refusal::new(fault, "PostgreSQL's lexer reads it no further either.")
    }

    pub(super) fn too_many_tables() -> Refusal {
        Refusal::new("statement names too many tables at once", HINT)
    }

    pub(in crate::sql) fn too_deep() -> Refusal {
        Refusal::new("statement is nested too deeply", HINT)
    }

    pub(super) fn user_function(name: &str) -> Refusal {
        Refusal::new(
            format!("function \"{name}\" may read any table"),
            format!("Declare it IMMUTABLE if it reads none. {HINT}"),
        )
    }

    pub(super) fn calling_word(what: &str, function: &str) -> Refusal {
        Refusal::new(
            format!("{what} calls function \"{function}\", which may read any table"),
            format!("Declare it IMMUTABLE if it reads none. {HINT}"),
        )
    }

    pub(super) fn calling_default(table: &str, column: &str, function: &str) -> Refusal {
        Refusal::new(
            format!(
                "the default of \"{table}\"'s column \"{column}\" calls function \"{function}\", which may read any table"
            ),
            format!("Give {column} a value, or declare the function IMMUTABLE if it reads none. {HINT}"),
        )
    }

    pub(super) fn ruled(table: &str) -> Refusal {
        Refusal::new(
            format!(
                "rules of \"{table}\" make other statements of what writes to it, and those are not routed"
            ),
            format!("Drop the rules, and use triggers that change the row itself. {HINT}"),
        )
    }

    pub(super) fn rule_made() -> Refusal {
        Refusal::new(
            "a rule on sharded or reference tables cannot be routed by: what it makes of a statement is not seen",
            "Use a trigger that changes the row itself, or write the statements yourself.",
        )
    }

    pub(super) fn reading_function(name: &str) -> Refusal {
        Refusal::new(format!("function \"{name}\" reads tables it is given by name"), HINT)
    }

    pub(super) fn home_into_reference() -> Refusal {
        Refusal::new(
            "rows of the home shard cannot be written into a reference table",
            "Read them first, and write them as constants.",
        )
    }

    pub(super) fn sharded_into_reference() -> Refusal {
        Refusal::new(
            "rows of a sharded table cannot be written into a reference table",
            "Read them first, and write them as constants.",
        )
    }

    pub(super) fn key_missing(table: &str, column: &str) -> Refusal {
        Refusal::new(
            format!("INSERT into \"{table}\" does not give its key, column \"{column}\""),
            format!("Name {column} among the columns and give it a constant or a parameter."),
        )
    }

    pub(super) fn key_not_constant(table: &str, column: &str) -> Refusal {
        Refusal::new(
            format!("the value of \"{table}\"'s key, column \"{column}\", is not a constant"),
            format!("Give {column} a constant or a parameter in each row. {HINT}"),
        )
    }

    pub(super) fn key_null(table: &str, column: &str) -> Refusal {
        Refusal::new(
            format!("the key of \"{table}\", column \"{column}\", cannot be NULL"),
            format!("Give {column} a value."),
        )
    }

    pub(super) fn identity_overridden(table: &str) -> Refusal {
        Refusal::new(
            format!(
                "OVERRIDING USER VALUE has a sequence give the key of \"{table}\", or what is not the same in its copies"
            ),
            "Leave it away, or the identity column.",
        )
    }

    pub(super) fn size_of_shard(name: &str, function: &str) -> Refusal {
        Refusal::new(
            format!("{function}() of \"{name}\" would be one shard's part of it"),
            "Ask each shard, with /* pgring: shard=NAME */, and add the sizes up.",
        )
    }

    pub(super) fn size_of_unknown(function: &str) -> Refusal {
        Refusal::new(
            format!("whether {function}() would be one shard's part of something sharded cannot be told"),
            "Name the table as a constant, or say whose: /* pgring: shard=NAME */.",
        )
    }

    pub(super) fn key_changed(table: &str, column: &str) -> Refusal {
        Refusal::new(
            format!("the key of \"{table}\", column \"{column}\", cannot be changed"),
            format!("Rows do not move between shards: delete the row and insert it with its new {column}."),
        )
    }

    pub(super) fn view_written(name: &str) -> Refusal {
        Refusal::new(
            format!("view \"{name}\" reads sharded tables and cannot be written through pgring"),
            format!("Write to its table. {HINT}"),
        )
    }

    pub(super) fn catalog_written() -> Refusal {
        Refusal::new("system catalogs cannot be written on several shards", HINT)
    }

    pub(super) fn merge_by_source(table: &str) -> Refusal {
        Refusal::new(format!("WHEN NOT MATCHED BY SOURCE may touch every row of \"{table}\""), HINT)
    }

    pub(super) fn file_copied(table: &str) -> Refusal {
        Refusal::new(
            format!("COPY of \"{table}\" with a file of the server would read or write only one shard's"),
            "Use STDIN or STDOUT.",
        )
    }

    pub(super) fn any_code(what: &str) -> Refusal {
        Refusal::new(format!("{what} may touch any table"), HINT)
    }

    pub(super) fn derived_table(what: &str) -> Refusal {
        Refusal::new(
            format!("{what} from sharded tables would hold a part of their rows on each shard"),
            HINT,
        )
    }

    pub(super) fn filled_everywhere() -> Refusal {
        Refusal::new(
            "a table that is on every shard cannot be made and filled at once: each shard would have all the rows",
            "Make it empty with CREATE TABLE, or CREATE TABLE … AS … WITH NO DATA, and fill it with INSERT … SELECT.",
        )
    }

    pub(super) fn filled_with_unknown(key: &str) -> Refusal {
        Refusal::new(
            format!("whether the table will have a column \"{key}\", and be sharded by it, cannot be told"),
            "Name each column that the query gives, instead of * or a function. Or make the table empty with CREATE \
             TABLE, and fill it with INSERT … SELECT.",
        )
    }

    pub(super) fn temporary_name(name: &str) -> Refusal {
        Refusal::new(
            format!("a temporary table \"{name}\" would hide the sharded table of that name"),
            "Give it another name.",
        )
    }

    pub(super) fn mixed_objects() -> Refusal {
        Refusal::new(
            "the statement names sharded tables and tables of the home shard",
            "Split it: one statement for each kind.",
        )
    }

    pub(super) fn prepared_transaction() -> Refusal {
        Refusal::new(
            "a transaction that may be on several shards is prepared by pgring only",
            "COMMIT ends it on every shard it is on, in two phases.",
        )
    }

    pub(super) fn server_wide(what: &str) -> Refusal {
        Refusal::new(format!("{what} concerns a whole server"), "Run it on each server directly.")
    }
}
