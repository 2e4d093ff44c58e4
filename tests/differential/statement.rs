//! Statements as they stand in the corpus, and what their texts say about how answers compare.
//!
//! A paragraph is a statement. `$1{7}` is a parameter with its value: the literal itself under the
//! simple protocol, where `$1` stands again further on as well. Comments before it may say:
//!
//! - `-- about`: floating-point numbers agree in their first nine digits, since they depend on the
//!   order in which rows are added up;
//! - `-- error 22012`: this is what PostgreSQL says;
//! - `-- ignore id, created_at`: what these columns of the tables hold depends on sequences or clocks;
//! - `-- refused a row may not move`: pgring refuses it, and says this;
//! - `-- any rows`: which rows of those without its `LIMIT` come is PostgreSQL's choice. (Understood
//!   without saying where there is no `ORDER BY`.)

use std::path::Path;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    /// Where it stands, for messages.
    pub(crate) place: String,
    /// Without parameters.
    pub(crate) simple: String,
    /// With `$1` …
    pub(crate) extended: String,
    /// Their values as text.
    pub(crate) values: Vec<Option<String>>,
    pub(crate) about: bool,
    pub(crate) any_rows: bool,
    pub(crate) error: Option<String>,
    pub(crate) refused: Option<String>,
    pub(crate) ignore: Vec<String>,
}

impl Statement {
    pub(crate) fn new(text: &str) -> Statement {
        let mut statement = Statement { place: text.to_owned(), ..Statement::default() };
        (statement.simple, statement.extended, statement.values) = parameters(text);
        statement
    }
}

/// The statements of all files of a directory under `tests/differential`.
pub(crate) fn corpus(directory: &str) -> Vec<Statement> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential").join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut statements = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "sql")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let mut paragraph: Vec<&str> = Vec::new();
        let mut first = 0;
        for (number, line) in (1..).zip(text.lines().chain([""])) {
            if !line.trim().is_empty() {
                if paragraph.is_empty() {
                    first = number;
                }
                paragraph.push(line);
            } else if !paragraph.is_empty() {
                statements.extend(read(&std::mem::take(&mut paragraph), &format!("{name}:{first}")));
            }
        }
    }
    assert!(!statements.is_empty(), "{} holds no statements", directory.display());
    statements
}

/// `None` for a paragraph of comments.
fn read(lines: &[&str], place: &str) -> Option<Statement> {
    let comments = lines.iter().take_while(|line| line.starts_with("--")).count();
    let text = lines[comments..].join("\n");
    if text.is_empty() {
        return None;
    }
    let mut statement = Statement::new(text.trim_end_matches(';'));
    place.clone_into(&mut statement.place);
    for comment in &lines[..comments] {
        let (word, rest) = comment[2..].trim().split_once(' ').unwrap_or((comment[2..].trim(), ""));
        match word {
            "about" => statement.about = true,
            "any" => statement.any_rows = true,
            "error" => statement.error = Some(rest.to_owned()),
            "refused" => statement.refused = Some(rest.to_owned()),
            "ignore" => statement.ignore = rest.split(", ").map(str::to_owned).collect(),
            _ => {}
        }
    }
    Some(statement)
}

/// Texts for the two protocols, and values.
fn parameters(text: &str) -> (String, String, Vec<Option<String>>) {
    let mut literals: Vec<String> = Vec::new();
    let (mut simple, mut extended) = (String::new(), String::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let digits: String = rest[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        simple.push_str(&rest[..at]);
        extended.push_str(&rest[..at]);
        rest = &rest[at..];
        let Ok(number) = digits.parse::<usize>() else {
            simple.push('$');
            extended.push('$');
            rest = &rest[1..];
            continue;
        };
        let (name, after) = rest.split_at(1 + digits.len());
        rest = after;
        extended.push_str(name);
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '\'';
            c == '}' && !quoted
        });
        if let Some(end) = end.filter(|_| rest.starts_with('{') && number > 0) {
            literals.resize(literals.len().max(number), "NULL".to_owned());
            rest[1..end].clone_into(&mut literals[number - 1]);
            rest = &rest[end + 1..];
        }
        simple.push_str(number.checked_sub(1).and_then(|at| literals.get(at)).map_or(name, String::as_str));
    }
    simple.push_str(rest);
    extended.push_str(rest);
    let values = literals.iter().map(|literal| match literal.strip_prefix('\'') {
        Some(quoted) => Some(quoted.trim_end_matches('\'').replace("''", "'")),
        None if literal == "NULL" => None,
        None => Some(literal.clone()),
    });
    (simple, extended, values.collect())
}

/// A token of SQL: enough to find the clauses of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) text: &'t str,
    /// Where it starts.
    pub(crate) at: usize,
    /// In how many parentheses it stands; these themselves stand outside.
    pub(crate) depth: usize,
}

impl Token<'_> {
    pub(crate) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// The tokens of a text; comments and white space are none.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80;
    let mut tokens = Vec::new();
    let (mut at, mut depth) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        let until = |end: Option<usize>| end.unwrap_or(rest.len());
        let len = match byte {
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("--") => {
                at += until(rest.find('\n'));
                continue;
            }
            b'/' if rest.starts_with("/*") => {
                at += until(rest.find("*/").map(|end| end + 2));
                continue;
            }
            b'\'' | b'"' => until(rest[1..].find(char::from(byte)).map(|end| end + 2)),
            b'$' if rest.starts_with("$$") => until(rest[2..].find("$$").map(|end| end + 4)),
            b'(' | b'[' => {
                tokens.push(Token { text: &rest[..1], at, depth });
                depth += 1;
                at += 1;
                continue;
            }
            b')' | b']' => {
                depth = depth.saturating_sub(1);
                1
            }
            b'0'..=b'9' => until(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.')),
            _ if word(byte) => until(rest.bytes().position(|byte| !word(byte))),
            b':' if rest.starts_with("::") => 2,
            b'<' | b'>' | b'=' | b'!' | b'|' | b'&' | b'@' | b'#' | b'~' | b'?' => {
                until(rest.bytes().position(|byte| !b"<>=!|&@#~?".contains(&byte)))
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        tokens.push(Token { text: &rest[..len], at, depth });
        at += len;
    }
    tokens
}

/// What a query's text says of its rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outline {
    /// The keys of its own `ORDER BY`; empty if it has none.
    pub(crate) keys: Vec<String>,
    /// The text up to its own `LIMIT`, `OFFSET` or `FETCH`, if it has one.
    pub(crate) unlimited: Option<String>,
}

/// The outermost clauses of a query.
pub(crate) fn outline(text: &str) -> Outline {
    let all = tokens(text);
    // A query in parentheses is the query.
    let closes_last = |depth| all.iter().position(|token| token.text == ")" && token.depth == depth);
    let mut depth = 0;
    while all.get(depth).is_some_and(|token| token.text == "(")
        && closes_last(depth).is_some_and(|at| at == all.len() - 1 - depth)
    {
        depth += 1;
    }
    let top: Vec<&Token<'_>> = all.iter().filter(|token| token.depth == depth).collect();
    let limit = ["LIMIT", "OFFSET", "FETCH"]
        .iter()
        .filter_map(|word| top.iter().position(|token| token.is(word)))
        .min();
    let order = top.windows(2).rposition(|pair| pair[0].is("ORDER") && pair[1].is("BY"));
    let end = limit
        .map_or_else(|| all.get(all.len() - depth).map_or(text.len(), |token| token.at), |at| top[at].at);
    let keys = order.map_or_else(Vec::new, |order| {
        let start = top[order + 1].end();
        let mut keys = Vec::new();
        let mut from = start;
        for comma in top.iter().filter(|token| token.text == "," && token.at > start && token.at < end) {
            keys.push(text[from..comma.at].trim().to_owned());
            from = comma.end();
        }
        keys.push(text[from..end].trim().to_owned());
        keys
    });
    let unlimited = limit.map(|at| {
        let locking = top[at..].iter().find(|token| token.is("FOR")).map_or(text.len(), |token| token.at);
        format!(
            "{}{}{}",
            &text[..top[at].at],
            &text[locking..],
            ")".repeat(if locking == text.len() { depth } else { 0 })
        )
    });
    Outline { keys, unlimited }
}

#[test]
fn texts_are_read_as_they_are_meant() {
    let (simple, extended, values) = parameters("SELECT $1{7}, $2{'it''s}'}, $1, '$5 off'::text || $3{NULL}");
    assert_eq!(simple, "SELECT 7, 'it''s}', 7, '$5 off'::text || NULL");
    assert_eq!(extended, "SELECT $1, $2, $1, '$5 off'::text || $3");
    assert_eq!(values, [Some("7".to_owned()), Some("it's}".to_owned()), None]);

    for (text, keys, unlimited) in [
        ("SELECT 1", &[][..], None),
        (
            "SELECT a FROM t ORDER BY a, f(b, c) DESC LIMIT 3",
            &["a", "f(b, c) DESC"],
            Some("SELECT a FROM t ORDER BY a, f(b, c) DESC "),
        ),
        ("SELECT array_agg(x ORDER BY y) FROM (SELECT * FROM t ORDER BY x LIMIT 1) q", &[], None),
        ("(SELECT a FROM t ORDER BY 1)", &["1"], None),
        ("(SELECT a FROM t ORDER BY 1) UNION (SELECT 2)", &[], None),
        ("SELECT ' LIMIT ' FROM t OFFSET 2", &[], Some("SELECT ' LIMIT ' FROM t ")),
        ("SELECT a FROM t ORDER BY a FETCH FIRST ROW ONLY", &["a"], Some("SELECT a FROM t ORDER BY a ")),
    ] {
        let outline = outline(text);
        assert_eq!(
            (&outline.keys[..], outline.unlimited.as_deref()),
            (&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()[..], unlimited),
            "{text}"
        );
    }
}
