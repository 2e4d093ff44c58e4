//! A table of the document, read key by key.
//!
//! Reading never fails: what is wrong is reported to the [`File`] and the reader goes on with
//! a default or nothing. When a section goes out of scope it reports the keys that nobody
//! asked for, so no reader can forget to.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::settings::{Secret, Settings};
use super::suggest::nearest;
use super::values::{self, Wrong, wrong};

/// What is known of a file while it is read.
pub(super) struct File<'d> {
    origin: &'d Path,
    base: &'d Path,
    text: &'d str,
    environment: &'d dyn Fn(&str) -> Option<OsString>,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, without indexes: `database.shard.endpoints`.
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<Unknown>>,
}

/// A key that no reader asked for; the advice waits until all known keys are.
struct Unknown {
    section: String,
    title: String,
    key: String,
    offset: usize,
    siblings: BTreeSet<&'static str>,
}

/// Reads a text with `reader`; also returns the names of all keys that were asked for.
pub(super) fn read(
    text: &str,
    origin: &Path,
    environment: &dyn Fn(&str) -> Option<OsString>,
    reader: fn(&mut Section<'_>) -> Settings,
) -> (Result<Settings, Problems>, BTreeSet<String>) {
    let base = origin.parent().unwrap_or(Path::new(""));
    let file = File {
        origin,
        base,
        text,
        environment,
        problems: RefCell::default(),
        known: RefCell::default(),
        unknown: RefCell::default(),
    };
    let (document, mistakes) = DeTable::parse_recoverable(text);
    if !mistakes.is_empty() {
        // What stands around broken syntax could only be guessed at, so nothing else is said.
        let mut lines = BTreeMap::new();
        for mistake in mistakes {
            let offset = mistake.span().map(|span| span.start);
            let message = mistake.message().lines().collect::<Vec<_>>().join(", ");
            lines.entry(offset.map(|offset| file.line(offset))).or_insert((offset, message));
        }
        for (offset, message) in lines.into_values() {
            file.report(
                offset,
                "",
                wrong(format!("is not TOML: {message}"), "correct the syntax of this line"),
            );
        }
        return (Err(Problems(file.problems.into_inner())), BTreeSet::new());
    }
    let mut root = Section {
        file: &file,
        path: String::new(),
        title: "the top of the file".to_owned(),
        table: Some(document.get_ref()),
        header: None,
        asked: BTreeSet::new(),
    };
    let settings = reader(&mut root);
    drop(root);
    file.report_unknown();

    let mut problems = file.problems.into_inner();
    problems.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
    let result = if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) };
    (result, file.known.into_inner())
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn report(&self, offset: Option<usize>, key: &str, wrong: Wrong) {
        self.problems.borrow_mut().push(Problem {
            file: self.origin.to_owned(),
            line: offset.map(|offset| self.line(offset)),
            key: key.to_owned(),
            message: wrong.message,
            remedy: wrong.remedy,
        });
    }

    fn report_unknown(&self) {
        let known = self.known.borrow();
        for unknown in self.unknown.take() {
            let here = nearest(&unknown.key, unknown.siblings.iter().copied());
            let elsewhere =
                known.iter().find(|path| path.rsplit_once('.').is_some_and(|(_, leaf)| leaf == unknown.key));
            let remedy = match (here, elsewhere) {
                (Some(sibling), _) => format!("did you mean \"{sibling}\"?"),
                (None, Some(path)) => format!("did you mean \"{path}\", which stands elsewhere?"),
                (None, None) => "remove it".to_owned(),
            };
            let message = format!("is not a key of {}", unknown.title);
            self.report(Some(unknown.offset), &join(&unknown.section, &unknown.key), wrong(message, remedy));
        }
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// `database[0].shard[1]` → `database.shard`
fn without_indexes(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// A string of the document, with where it stands.
#[derive(Clone)]
pub(super) struct Item<'d> {
    pub(super) text: &'d str,
    path: String,
    offset: usize,
    file: &'d File<'d>,
}

impl<'d> Item<'d> {
    /// Reports what is wrong with it.
    pub(super) fn report(&self, wrong: Wrong) {
        self.file.report(Some(self.offset), &self.path, wrong);
    }

    /// What `parse` makes of it, or a report.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        parse(self.text).map_err(|wrong| self.report(wrong)).ok()
    }

    /// The directory of the file, which relative paths start from.
    pub(super) fn base(&self) -> &'d Path {
        self.file.base
    }
}

/// Finds what occurs twice.
pub(super) struct Unique<T> {
    what: &'static str,
    lines: BTreeMap<T, usize>,
}

impl<T: Ord> Unique<T> {
    /// `what` completes "is already …".
    pub(super) fn new(what: &'static str) -> Unique<T> {
        Unique { what, lines: BTreeMap::new() }
    }

    /// Reports the item if an earlier one had the same value.
    pub(super) fn check(&mut self, value: T, item: &Item<'_>) {
        let line = item.file.line(item.offset);
        if let Some(first) = self.lines.get(&value) {
            item.report(wrong(
                format!("\"{}\" is already {} on line {first}", item.text, self.what),
                "change or remove one of them",
            ));
        } else {
            self.lines.insert(value, line);
        }
    }
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Refused,
    Allowed,
}

/// A table of the document; without one, everything in it has its default.
pub(super) struct Section<'d> {
    file: &'d File<'d>,
    path: String,
    title: String,
    table: Option<&'d DeTable<'d>>,
    header: Option<usize>,
    asked: BTreeSet<&'static str>,
}

impl<'d> Section<'d> {
    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.insert(key);
        self.file.known.borrow_mut().insert(join(&without_indexes(&self.path), key));
        self.table?.iter().find_map(|(name, value)| (name.get_ref() == key).then_some(value))
    }

    /// Whether the file has this section.
    pub(super) fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has this key.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Reports what is wrong with a key's value, or with its absence.
    pub(super) fn report(&mut self, key: &'static str, wrong: Wrong) {
        let offset = self.get(key).map(|value| value.span().start).or(self.header);
        self.file.report(offset, &join(&self.path, key), wrong);
    }

    fn wrong_type(&self, place: &Spanned<DeValue<'_>>, path: &str, expected: &str, remedy: String) {
        let found = match place.get_ref() {
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::String(_) => "a string",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("must be {expected}, not {found}");
        self.file.report(Some(place.span().start), path, wrong(message, remedy));
    }

    /// A string; `example` is what one looks like.
    pub(super) fn item(&mut self, key: &'static str, example: &str) -> Option<Item<'d>> {
        let value = self.get(key)?;
        self.string(value, join(&self.path, key), example)
    }

    fn string(&self, value: &'d Spanned<DeValue<'d>>, path: String, example: &str) -> Option<Item<'d>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Item { text, path, offset: value.span().start, file: self.file }),
            _ => {
                self.wrong_type(value, &path, "a string", format!("write one such as \"{example}\""));
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn required_item(
        &mut self,
        key: &'static str,
        example: &str,
        remedy: &str,
    ) -> Option<Item<'d>> {
        if !self.has(key) {
            self.report(key, wrong("is missing", remedy));
        }
        self.item(key, example)
    }

    /// A list of strings; one alone may stand without brackets. None: the key is not there.
    pub(super) fn items(&mut self, key: &'static str, example: &str) -> Option<Vec<Item<'d>>> {
        let value = self.get(key)?;
        let path = join(&self.path, key);
        Some(match value.get_ref() {
            DeValue::Array(values) => values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| self.string(value, format!("{path}[{index}]"), example))
                .collect(),
            DeValue::String(_) => self.string(value, path, example).into_iter().collect(),
            _ => {
                self.wrong_type(
                    value,
                    &path,
                    "a list of strings",
                    format!("write one such as [\"{example}\"]"),
                );
                Vec::new()
            }
        })
    }

    /// Whether a list is there and has nothing in it, not even something of a wrong type.
    pub(super) fn is_empty_list(&mut self, key: &'static str) -> bool {
        matches!(self.get(key).map(Spanned::get_ref), Some(DeValue::Array(values)) if values.is_empty())
    }

    /// A string that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.item(key, example)?.parse(parse)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(value) => value.get_ref().as_bool().unwrap_or_else(|| {
                let remedy = "write true or false, without quotes".to_owned();
                self.wrong_type(value, &join(&self.path, key), "a boolean", remedy);
                default
            }),
        }
    }

    /// A whole number in a range.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let Some(value) = self.get(key) else { return default };
        let Some(integer) = value.get_ref().as_integer() else {
            let remedy = format!("write one such as {default}, without quotes");
            self.wrong_type(value, &join(&self.path, key), "a whole number", remedy);
            return default;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let low = number
                    .is_some_and(|number| T::try_from(number).map_or(number < 0, |n| n < *range.start()));
                let message = if low {
                    format!("must be at least {}", range.start())
                } else {
                    format!("must be at most {}", range.end())
                };
                let remedy = format!("set it to a number from {} to {}", range.start(), range.end());
                self.report(key, wrong(message, remedy));
                default
            }
        }
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration, zero: Zero) -> Duration {
        match self.parsed(key, "5s", values::duration) {
            Some(Duration::ZERO) if zero == Zero::Refused => {
                self.report(key, wrong("must be more than 0", "set it to a duration such as \"5s\""));
                default
            }
            Some(duration) => duration,
            None => default,
        }
    }

    /// A duration that is off by default and with `"0"`.
    pub(super) fn off_or_duration(&mut self, key: &'static str) -> Option<Duration> {
        let duration = self.duration(key, Duration::ZERO, Zero::Allowed);
        (!duration.is_zero()).then_some(duration)
    }

    /// A size of more than nothing.
    pub(super) fn size(&mut self, key: &'static str, default: u64) -> u64 {
        match self.parsed(key, "64MiB", values::size) {
            Some(0) => {
                self.report(key, wrong("must be more than 0", "set it to a size such as \"64MiB\""));
                default
            }
            Some(bytes) => bytes,
            None => default,
        }
    }

    /// One of several words; the first is the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        let (example, default) = choices[0];
        let chosen = self.parsed(key, example, |text| {
            choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let remedy = match nearest(text, choices.iter().map(|(word, _)| *word)) {
                    Some(word) => format!("did you mean \"{word}\"?"),
                    None => {
                        let words: Vec<String> =
                            choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                        format!("write one of {}", words.join(", "))
                    }
                };
                wrong(format!("\"{text}\" is none of its values"), remedy)
            })
        });
        chosen.unwrap_or(default)
    }

    /// A file that can be read and is PEM with `label` in it; `required` says what for.
    pub(super) fn pem_file(
        &mut self,
        key: &'static str,
        example: &str,
        label: &str,
        required: Option<&str>,
    ) -> Option<PathBuf> {
        let item = match required {
            Some(remedy) => self.required_item(key, example, remedy)?,
            None => self.item(key, example)?,
        };
        let path = item.base().join(item.text);
        let fault = match std::fs::read(&path) {
            Err(error) => format!("{} cannot be read: {error}", path.display()),
            Ok(bytes) => {
                let wanted = format!("{label}-----");
                if bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
                    return Some(path);
                }
                format!("{} has no {label} in PEM format", path.display())
            }
        };
        item.report(wrong(fault, "name a PEM file that pgring may read; paths are relative to this file"));
        None
    }

    /// A secret: a string, `{ env = "NAME" }` or `{ file = "path" }`. Not empty.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        const FORMS: &str = "write a string, { env = \"NAME\" } or { file = \"path\" }";
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Table(_) => self.looked_up_secret(key, FORMS)?,
            _ => {
                self.wrong_type(value, &join(&self.path, key), "a string or a table", FORMS.to_owned());
                return None;
            }
        };
        if text.contains('\0') {
            self.report(key, wrong("contains a NUL, which no password can", "remove it"));
            return None;
        }
        Some(Secret::new(text))
    }

    fn looked_up_secret(&mut self, key: &'static str, forms: &str) -> Option<String> {
        let mut source = self.table(key);
        let (env, file) = (source.item("env", "NAME"), source.item("file", "path"));
        let given = source.has("env") || source.has("file");
        drop(source);
        match (env, file) {
            (Some(name), None) => match (self.file.environment)(name.text).map(OsString::into_string) {
                Some(Ok(text)) => Some(text),
                Some(Err(_)) => {
                    let message = format!("the environment variable {} is not UTF-8", name.text);
                    name.report(wrong(message, "set it to the password"));
                    None
                }
                None => {
                    let message = format!("the environment variable {} is not set", name.text);
                    name.report(wrong(message, "set it, or write the password in another form"));
                    None
                }
            },
            (None, Some(file)) => {
                let path = file.base().join(file.text);
                match std::fs::read_to_string(&path) {
                    // An editor ends the last line; the password does not contain that.
                    Ok(text) => Some(
                        text.strip_suffix('\n')
                            .map(|text| text.strip_suffix('\r').unwrap_or(text))
                            .unwrap_or(&text)
                            .to_owned(),
                    ),
                    Err(error) => {
                        let message = format!("{} cannot be read: {error}", path.display());
                        file.report(wrong(message, "name a file of text that pgring may read"));
                        None
                    }
                }
            }
            (Some(_), Some(_)) => {
                self.report(key, wrong("has two sources", "keep one of env and file"));
                None
            }
            (None, None) => {
                if !given {
                    self.report(key, wrong("names no source", forms));
                }
                None
            }
        }
    }

    /// The environment variable's value, if there is such a variable and it is text.
    pub(super) fn environment(&self, name: &str) -> Option<String> {
        (self.file.environment)(name)?.into_string().ok()
    }

    /// A table in this one.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'d> {
        let path = join(&self.path, key);
        let title = format!("[{}]", without_indexes(&path));
        let value = self.get(key);
        let table = value.and_then(|found| match found.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong_type(found, &path, "a table", format!("write {title} and its keys below"));
                None
            }
        });
        Section { file: self.file, path, title, table, header: offset(value), asked: BTreeSet::new() }
    }

    /// The tables of a list of tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'d>> {
        let path = join(&self.path, key);
        let title = format!("[[{}]]", without_indexes(&path));
        let remedy = format!("write {title} and its keys below");
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(values) = value.get_ref() else {
            self.wrong_type(value, &path, "a list of tables", remedy);
            return Vec::new();
        };
        let section = |(index, value): (usize, &'d Spanned<DeValue<'d>>)| {
            let path = format!("{path}[{index}]");
            let DeValue::Table(table) = value.get_ref() else {
                self.wrong_type(value, &path, "a table", remedy.clone());
                return None;
            };
            Some(Section {
                file: self.file,
                path,
                title: title.clone(),
                table: Some(table),
                header: offset(Some(value)),
                asked: BTreeSet::new(),
            })
        };
        values.iter().enumerate().filter_map(section).collect()
    }
}

fn offset(value: Option<&Spanned<DeValue<'_>>>) -> Option<usize> {
    value.map(|value| value.span()).map(|Range { start, .. }| start)
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.asked.contains(key.get_ref().as_ref()) {
                self.file.unknown.borrow_mut().push(Unknown {
                    section: self.path.clone(),
                    title: self.title.clone(),
                    key: key.get_ref().to_string(),
                    offset: key.span().start,
                    siblings: self.asked.clone(),
                });
            }
        }
    }
}
