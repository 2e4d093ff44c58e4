//! Finds the paths in a source file.
//!
//! It reads tokens, not syntax trees: comments, strings and `#[cfg(test)]` items are left out,
//! `use` trees are unfolded, `super` is resolved. It errs on the side of complaint.

use std::path::{Path, PathBuf};

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
pub(crate) fn module_of(file: &Path) -> Vec<String> {
    let file = file.with_extension("");
    let mut module: Vec<String> = file.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// A path in the code, unfolded.
pub(crate) struct Use {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// The module it stands in.
    module: Vec<String>,
}

impl Use {
    /// The room it leads to, if to another than its own by way of the crate's root.
    pub(crate) fn room(&self) -> Option<&str> {
        let mut rest = self.segments.as_slice();
        while rest.first().is_some_and(|first| first == "self") {
            rest = &rest[1..];
        }
        let ups = rest.iter().take_while(|segment| *segment == "super").count();
        let from_root = match rest.first()?.as_str() {
            "crate" => &rest[1..],
            "super" if ups == self.module.len() => &rest[ups..],
            _ => return None,
        };
        let room = from_root.first()?.as_str();
        (Some(room) != self.module.first().map(String::as_str)).then_some(room)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    line: usize,
    text: String,
}

/// A file's tokens without its tests.
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
    /// Modules declared `#[cfg(test)] mod name;`.
    test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn read(text: &str) -> Source {
        let all = tokens(text);
        let mut source = Source { tokens: Vec::new(), test_modules: Vec::new() };
        let mut at = 0;
        while at < all.len() {
            let Some((end, inner)) = test_attribute(&all, at) else {
                source.tokens.push(all[at].clone());
                at += 1;
                continue;
            };
            if inner {
                break;
            }
            let item = item_end(&all, end);
            let words = &all[end..item];
            if let [.., keyword, name, semicolon] = words
                && keyword.text == "mod"
                && semicolon.text == ";"
            {
                source.test_modules.push(name.text.clone());
            }
            at = item;
        }
        source
    }

    /// Where the out-of-line test modules of `file` lie, without extension.
    pub(crate) fn test_files(&self, file: &Path) -> Vec<PathBuf> {
        let stem = file.with_extension("");
        let dir = if stem.ends_with("mod") { stem.parent().unwrap().to_owned() } else { stem };
        self.test_modules.iter().map(|name| dir.join(name)).collect()
    }

    /// Every path in the file; `use` trees give one for each leaf.
    pub(crate) fn paths(&self, module: &[String]) -> Vec<Use> {
        let mut found = Vec::new();
        let mut module = module.to_vec();
        // For each open brace: whether it opened an inline module.
        let mut braces = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "{" => {
                    let inline = at >= 2 && self.tokens[at - 2].text == "mod";
                    if inline {
                        module.push(self.tokens[at - 1].text.clone());
                    }
                    braces.push(inline);
                }
                "}" if braces.pop() == Some(true) => {
                    module.pop();
                }
                text if is_word(text) => {
                    at = self.tree(at, &[], &module, &mut found);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Unfolds the path at `at`; gives where it ends.
    fn tree(&self, mut at: usize, prefix: &[String], module: &[String], found: &mut Vec<Use>) -> usize {
        let text = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
        let line = self.tokens[at].line;
        let mut segments = prefix.to_vec();
        loop {
            if text(at) == "{" {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = match text(at) {
                        word if is_word(word) || matches!(word, "{" | "*") => {
                            let end = self.tree(at, &segments, module, found);
                            if text(end) == "as" { end + 2 } else { end }
                        }
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            segments.push(text(at).to_owned());
            at += 1;
            let next = text(at + 1);
            if text(at) != "::" || !(is_word(next) || matches!(next, "{" | "*")) {
                found.push(Use { line, segments, module: module.to_vec() });
                return at;
            }
            at += 1;
        }
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#![cfg(test)]` at `at`: where it ends, and whether it
/// stands for what surrounds it.
fn test_attribute(tokens: &[Token], at: usize) -> Option<(usize, bool)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    if text(at) != "#" {
        return None;
    }
    let inner = text(at + 1) == "!";
    let open = at + 1 + usize::from(inner);
    if text(open) != "[" || text(open + 1) != "cfg" {
        return None;
    }
    let end = closing(tokens, open);
    let condition: Vec<&str> = (open + 2..end).map(text).collect();
    let is_test = matches!(condition.as_slice(), ["(", "test", ")", ..] | ["(", "all", "(", "test", ..]);
    is_test.then_some((end, inner))
}

/// Where the item that begins at `at` (perhaps with more attributes) ends.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Just after the bracket that closes the one at `at`.
fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single characters; no comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let word = rest.strip_prefix("r#").unwrap_or(rest);
            let length = if rest.starts_with("::") {
                2
            } else {
                let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
                if end == 0 { first.len_utf8() } else { end }
            };
            let word = if word.len() < rest.len() && !is_word(word) { rest } else { word };
            found.push(Token { line, text: word[..length].to_owned() });
            rest.len() - word.len() + length
        };
        line += rest[..skipped].matches('\n').count();
        rest = &rest[skipped..];
    }
    found
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `br#"…"#` and the like.
fn raw_string(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after.bytes().take_while(|&b| b == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// A character literal, or the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|&(_, c)| c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) if chars.next().is_some_and(|(_, c)| c == '\'') => {
            text.char_indices().nth(3).map_or(text.len(), |(at, _)| at)
        }
        _ => 1,
    }
}
