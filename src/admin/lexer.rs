//! The console's tokens. Much less than SQL's: words, names in quotes, strings, symbols.

use crate::error::{ClientError, SqlState};

/// A token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// A keyword, a name or a number, as written. Case matters only in names.
    Word(String),
    /// `"…"`: a name and never a keyword.
    Name(String),
    /// `'…'`.
    Text(String),
    /// Anything else.
    Symbol(char),
}

impl Token {
    /// As a keyword, lower case.
    pub(super) fn keyword(&self) -> Option<String> {
        match self {
            Token::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// A number, a name or a string: what can stand as a value.
    pub(super) fn value(&self) -> Option<&str> {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Text(text) => Some(text),
            Token::Symbol(_) => None,
        }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Text(text) => f.write_str(text),
            Token::Symbol(symbol) => write!(f, "{symbol}"),
        }
    }
}

/// A command among several: its tokens, and its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece<'a> {
    pub(super) tokens: Vec<Token>,
    pub(super) text: &'a str,
}

/// The commands of a text, which semicolons separate. Empty ones are none.
pub(super) fn pieces(sql: &str) -> Result<Vec<Piece<'_>>, ClientError> {
    let mut pieces = Vec::new();
    let mut tokens = Vec::new();
    let mut rest = sql;
    let mut began = 0;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment)?;
        } else if first == ';' {
            let at = sql.len() - rest.len();
            if !tokens.is_empty() {
                pieces.push(Piece { tokens: std::mem::take(&mut tokens), text: sql[began..at].trim() });
            }
            rest = &rest[1..];
            began = at + 1;
        } else if first == '"' || first == '\'' {
            let (text, after) = quoted(&rest[1..], first)?;
            tokens.push(if first == '"' { Token::Name(text) } else { Token::Text(text) });
            rest = after;
        } else if in_word(first) {
            let (word, after) = rest.split_at(word_length(rest));
            tokens.push(Token::Word(word.to_owned()));
            rest = after;
        } else {
            tokens.push(Token::Symbol(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    if !tokens.is_empty() {
        pieces.push(Piece { tokens, text: sql[began..].trim() });
    }
    Ok(pieces)
}

/// The tokens of one command.
pub(super) fn tokens(sql: &str) -> Result<Vec<Token>, ClientError> {
    let mut pieces = pieces(sql)?;
    match pieces.len() {
        0 => Ok(Vec::new()),
        1 => Ok(pieces.swap_remove(0).tokens),
        _ => Err(ClientError::error(
            SqlState::SYNTAX,
            "cannot insert multiple commands into a prepared statement",
        )),
    }
}

/// PgBouncer's words, and what else names of databases are made of.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$') || (!c.is_ascii() && !c.is_whitespace())
}

fn word_length(text: &str) -> usize {
    let end = text.find(|c| !in_word(c)).unwrap_or(text.len());
    // `--` is a comment wherever it stands.
    text[..end].find("--").unwrap_or(end)
}

/// What follows the comment whose inside `text` begins with. Comments nest.
fn after_comment(text: &str) -> Result<&str, ClientError> {
    let bytes = text.as_bytes();
    let mut depth = 1_usize;
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Ok(&text[at..]);
                }
            }
            b"/*" => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    Err(ClientError::error(SqlState::SYNTAX, "unterminated comment"))
}

/// The text up to the closing quote, doubled ones being one, and what follows it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), ClientError> {
    let mut inside = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(quote) {
        inside.push_str(before);
        match after.strip_prefix(quote) {
            Some(more) => {
                inside.push(quote);
                rest = more;
            }
            None => return Ok((inside, after)),
        }
    }
    Err(ClientError::error(SqlState::SYNTAX, "unterminated quoted text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Token {
        Token::Word(text.into())
    }

    #[test]
    fn what_is_a_token() {
        let check = |sql: &str, expect: &[Token]| assert_eq!(tokens(sql).as_deref(), Ok(expect), "{sql}");
        check("", &[]);
        check(" ; ;\n", &[]);
        check("SHOW\tpools ;", &[word("SHOW"), word("pools")]);
        check(";;show pools;;", &[word("show"), word("pools")]);
        check("-- all\nSHOW -- what?\n pools", &[word("SHOW"), word("pools")]);
        check("/* a /* b */ c */SHOW/**/pools/* ; */;", &[word("SHOW"), word("pools")]);
        check("pause \"a \"\"b\"\"\"", &[word("pause"), Token::Name("a \"b\"".into())]);
        check("pause 'it''s'", &[word("pause"), Token::Text("it's".into())]);
        check("pause my-db.eu", &[word("pause"), word("my-db.eu")]);
        check("pause my--db", &[word("pause"), word("my")]);
        check("pause día", &[word("pause"), word("día")]);
        check("set a=-1", &[word("set"), word("a"), Token::Symbol('='), word("-1")]);
    }

    #[test]
    fn commands_of_a_text() {
        let check = |sql: &str, expect: &[&str]| {
            let pieces = pieces(sql).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.text).collect::<Vec<_>>(), expect, "{sql}");
        };
        check("; /* ; */ ;", &[]);
        check("SHOW POOLS", &["SHOW POOLS"]);
        check(
            "; show pools ;; pause \"a;b\" -- ; c\n; resume",
            &["show pools", "pause \"a;b\" -- ; c", "resume"],
        );
    }

    #[test]
    fn what_is_not() {
        for sql in
            ["show pools; show clients", "/* show", "/* /* */", "/*", "/*/", "\"a", "'a''", "a; 'b'", "a; 'b"]
        {
            assert_eq!(tokens(sql).unwrap_err().code, SqlState::SYNTAX, "{sql}");
        }
    }
}
