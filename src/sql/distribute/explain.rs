//! A plan in words, for the `explain` command: which tier it is, and what runs where.

use std::fmt::{self, Display, Formatter};

use super::{Combine, Count, Each, Gather, Merge, Piece, Plan, Replicate, SortKey, Source, Split};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Merge(merge) => merge.fmt(f),
            Plan::Combine(combine) => combine.fmt(f),
            Plan::Gather(gather) => gather.fmt(f),
            Plan::Each(Each { sql, .. }) | Plan::Replicate(Replicate::Same(Each { sql, .. })) => {
                write!(f, "each for its own rows\neach: {sql}")
            }
            Plan::Split(split) => split.fmt(f),
            Plan::Replicate(Replicate::Insert { first, others_head, others_tail, .. }) => {
                write!(f, "one inserts, the others copy\none: {first}\nothers: {others_head}…{others_tail}")
            }
        }
    }
}

impl Display for Merge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("merged")?;
        for (nth, key) in self.sort.iter().enumerate() {
            write!(f, "{} {key}", if nth == 0 { " by" } else { "," })?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", {limit} rows")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", but for the first {offset}")?;
        }
        write!(f, "\neach: {}", self.sql)
    }
}

impl Display for SortKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.descending { "descending" } else { "ascending" })?;
        match (self.descending, self.nulls_first) {
            (false, true) => f.write_str(" (nulls first)"),
            (true, false) => f.write_str(" (nulls last)"),
            _ => Ok(()),
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Count::Literal(count) => write!(f, "{count}"),
            Count::Param(number) => write!(f, "${number}"),
        }
    }
}

impl Display for Combine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "folded\neach: {}\none: ", self.fetch)?;
        self.finish.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Source => f.write_str("pgring_partial"),
            Piece::SumOf(column) => write!(f, "sum(pgring_partial.c{})", column + 1),
            Piece::Quotient { sum, count } => {
                write!(f, "sum(pgring_partial.c{}) / sum(pgring_partial.c{})", sum + 1, count + 1)
            }
        })
    }
}

impl Display for Gather {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("over copies of the rows it needs")?;
        for table in &self.tables {
            let source = match &table.source {
                Source::EachShard => "each",
                Source::Owners(_) => "owners",
                Source::Home => "home",
                Source::AnyShard => "any",
            };
            write!(f, "\n{source}: {}", table.fetch)?;
        }
        write!(f, "\none: {}", self.sql)
    }
}

impl Display for Split {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "split by owner\neach: {} (its own of {} rows) {}", self.head, self.rows.len(), self.tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let key = |descending, nulls_first| SortKey { descending, nulls_first, bytewise: false };
        let merge = Merge {
            sql: "SELECT id, id AS pgring_key1 FROM jobs".to_owned(),
            sort: vec![key(false, false), key(true, false)],
            limit: Some(Count::Literal(10)),
            offset: Some(Count::Param(2)),
        };
        let combine = Combine {
            fetch: "SELECT sum(a), count(a) FROM jobs".to_owned(),
            columns: Vec::new(),
            finish: vec![
                Piece::Text("SELECT ".to_owned()),
                Piece::Quotient { sum: 0, count: 1 },
                Piece::Text(" FROM ".to_owned()),
                Piece::Source,
            ],
        };
        for (plan, expect) in [
            (
                Plan::Merge(merge),
                "merged by ascending, descending (nulls last), 10 rows, but for the first $2\n\
                 each: SELECT id, id AS pgring_key1 FROM jobs",
            ),
            (
                Plan::Combine(combine),
                "folded\neach: SELECT sum(a), count(a) FROM jobs\n\
                 one: SELECT sum(pgring_partial.c1) / sum(pgring_partial.c2) FROM pgring_partial",
            ),
        ] {
            assert_eq!(plan.to_string(), expect);
        }
    }
}
