//! When two answers are the same.

use super::answer::{Answer, Column, Mode, Row};
use super::statement::{Outline, Statement, outline};

/// What came of asking both.
#[derive(Debug)]
pub(crate) enum Verdict {
    Same,
    /// By pgring; with what it said.
    Refused(String),
    /// And how.
    Different(String),
}

/// How rows of a statement's answers are compared.
pub(crate) struct Rules<'s> {
    statement: &'s Statement,
    pub(crate) outline: Outline,
    mode: Mode,
}

impl<'s> Rules<'s> {
    pub(crate) fn new(statement: &'s Statement, mode: Mode) -> Rules<'s> {
        Rules { statement, outline: outline(&statement.simple), mode }
    }

    /// The statement of which the answer must be some rows: for one whose `LIMIT` leaves open which.
    pub(crate) fn whole(&self) -> Option<Statement> {
        let open = self.statement.any_rows || self.outline.keys.is_empty();
        let text = self.outline.unlimited.as_ref().filter(|_| open)?;
        Some(Statement {
            simple: text.clone(),
            extended: text.clone(),
            values: Vec::new(),
            ..self.statement.clone()
        })
    }

    /// `whole`: what the oracle says to [`Rules::whole`], in text form.
    pub(crate) fn verdict(&self, pgring: &Answer, oracle: &Answer, whole: Option<&Answer>) -> Verdict {
        let ours = pgring.failure.as_ref().map(|failure| failure.code.as_str());
        let theirs = oracle.failure.as_ref().map(|failure| failure.code.as_str());
        if ours.is_some() && ours == theirs {
            return Verdict::Same;
        }
        if pgring.is_refusal() {
            return Verdict::Refused(
                pgring.failure.as_ref().map_or(String::new(), |failure| failure.message.clone()),
            );
        }
        if ours != theirs {
            return Verdict::Different("one fails".to_owned());
        }
        if pgring.columns != oracle.columns {
            return Verdict::Different(format!("columns {:?} and {:?}", pgring.columns, oracle.columns));
        }
        if pgring.tags != oracle.tags {
            return Verdict::Different(format!("tags {:?} and {:?}", pgring.tags, oracle.tags));
        }
        let columns = &oracle.columns;
        let (ours, theirs) = (self.rounded(columns, &pgring.rows), self.rounded(columns, &oracle.rows));
        match whole {
            Some(whole) if self.mode != Mode::Binary => {
                let mut left = self.rounded(columns, &whole.rows);
                for row in &ours {
                    match left.iter().position(|other| other == row) {
                        Some(at) => drop(left.swap_remove(at)),
                        None => return Verdict::Different(format!("no such row: {row:?}")),
                    }
                }
                if ours.len() == theirs.len() {
                    Verdict::Same
                } else {
                    Verdict::Different(format!("{} and {} rows", ours.len(), theirs.len()))
                }
            }
            // Their values are compared in the other modes.
            Some(_) if ours.len() == theirs.len() => Verdict::Same,
            _ => self.rows(columns, &ours, &theirs),
        }
    }

    fn rows(&self, columns: &[Column], ours: &[Row], theirs: &[Row]) -> Verdict {
        if ours == theirs {
            return Verdict::Same;
        }
        let sorted = |rows: &[Row]| {
            let mut rows = rows.to_vec();
            rows.sort();
            rows
        };
        let (all_ours, all_theirs) = (sorted(ours), sorted(theirs));
        if all_ours != all_theirs {
            let only = |these: &[Row], those: &[Row]| {
                let row = these.iter().find(|row| {
                    let count = |rows: &[Row]| rows.iter().filter(|other| other == row).count();
                    count(these) > count(those)
                });
                row.map_or("none".to_owned(), |row| shown(columns, row))
            };
            return Verdict::Different(format!(
                "rows\n    only pgring's: {}\n    only the oracle's: {}",
                only(&all_ours, &all_theirs),
                only(&all_theirs, &all_ours)
            ));
        }
        if self.outline.keys.is_empty() {
            return Verdict::Same;
        }
        // Ties may come in any order: then it is the keys that are in the oracle's order.
        let Some(keys) = self.keys(columns) else { return Verdict::Different("order".to_owned()) };
        let only = |rows: &[Row]| -> Vec<Row> {
            rows.iter().map(|row| keys.iter().map(|at| row[*at].clone()).collect()).collect()
        };
        if only(ours) == only(theirs) {
            Verdict::Same
        } else {
            Verdict::Different("order of the keys".to_owned())
        }
    }

    /// The columns that are sorted by, if all keys are columns of the answer.
    fn keys(&self, columns: &[Column]) -> Option<Vec<usize>> {
        let found = self.outline.keys.iter().map(|key| {
            let words = key.split_whitespace().collect::<Vec<_>>();
            let (name, rest) = words.split_first()?;
            let plain = rest.iter().all(|word| {
                ["ASC", "DESC", "NULLS", "FIRST", "LAST"].iter().any(|known| word.eq_ignore_ascii_case(known))
            });
            if !plain {
                return None;
            }
            if let Ok(position) = name.parse::<usize>() {
                return position.checked_sub(1).filter(|at| *at < columns.len());
            }
            let name = name.rsplit('.').next().unwrap_or(name);
            columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
        });
        found.collect()
    }

    /// Floating-point numbers cut to what does not depend on the order of addition.
    fn rounded(&self, columns: &[Column], rows: &[Row]) -> Vec<Row> {
        if !self.statement.about {
            return rows.to_vec();
        }
        let round = |(at, value): (usize, &Option<Vec<u8>>)| {
            let Some(Column { oid: 700 | 701, binary, .. }) = columns.get(at) else { return value.clone() };
            let bytes = value.as_deref()?;
            let number = match bytes.len() {
                4 if *binary => f64::from(f32::from_be_bytes(bytes.try_into().unwrap())),
                8 if *binary => f64::from_be_bytes(bytes.try_into().unwrap()),
                _ => String::from_utf8_lossy(bytes).parse().unwrap(),
            };
            Some(format!("{number:.8e}").into_bytes())
        };
        rows.iter().map(|row| row.iter().enumerate().map(round).collect()).collect()
    }
}

fn shown(columns: &[Column], row: &Row) -> String {
    let values =
        row.iter().enumerate().map(|(at, value)| super::answer::shown(columns.get(at), value.as_deref()));
    values.collect::<Vec<_>>().join(" | ")
}
