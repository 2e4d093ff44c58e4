//! The smallest statement that still goes wrong: whatever can be left out is.
//!
//! Works on tokens, not on a tree: what is no SQL any more does not go wrong in the same way.

use std::time::{Duration, Instant};

use super::statement::{Token, tokens};

/// Until then; what is left may not be the smallest.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) fn shrunk(text: &str, mut still_wrong: impl FnMut(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut text = text.to_owned();
    let mut width = tokens(&text).len();
    while width > 0 {
        let all = tokens(&text);
        let starts = 0..(all.len() + 1).saturating_sub(width);
        let shorter = starts
            .flat_map(|start| without(&text, &all, start, width))
            .find(|shorter| Instant::now() < deadline && still_wrong(shorter));
        match shorter {
            Some(shorter) => {
                text = shorter;
                width = width.min(tokens(&text).len());
            }
            None => width -= 1,
        }
    }
    text
}

/// The text without some tokens, if these have all their parentheses; without the first and last
/// alone, if these are a pair.
fn without(text: &str, all: &[Token<'_>], start: usize, width: usize) -> Vec<String> {
    let cut = &all[start..start + width];
    let (first, last) = (cut[0], cut[width - 1]);
    let whole = cut.iter().all(|token| token.depth >= first.depth)
        && last.depth == first.depth
        && last.text != "("
        && first.text != ")";
    if !whole {
        return Vec::new();
    }
    let mut shorter = vec![format!("{} {}", text[..first.at].trim_end(), text[last.end()..].trim_start())];
    let pair = cut[1..].iter().position(|token| token.depth == first.depth) == Some(width.saturating_sub(2));
    if first.text == "(" && last.text == ")" && pair {
        shorter.push(format!(
            "{} {} {}",
            &text[..first.at],
            &text[first.end()..last.at],
            &text[last.end()..]
        ));
    }
    shorter
}

#[test]
fn what_does_not_matter_is_left_out() {
    let text =
        "SELECT a, (max(b) + 1) FROM t WHERE c = 1 AND (d IN (SELECT e FROM u) OR f) ORDER BY 1 LIMIT 3";
    for (needed, left) in [(&["max", "IN"][..], "max IN"), (&["(SELECT", "u)"], "(SELECT u)"), (&[], "")] {
        let found = shrunk(text, |text| {
            needed.iter().all(|part| text.contains(part))
                && text.matches('(').count() == text.matches(')').count()
        });
        assert_eq!(found.trim(), left);
    }
}
